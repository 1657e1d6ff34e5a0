"""The agent as a whole: its state folder, its parts, and how it starts and ends."""

import fcntl
import functools
import logging
import os
import select
import signal
import sys
import threading
from typing import IO, Any, NamedTuple, Optional

from vitsearch_evaluators import config, power
from vitsearch_evaluators.agent import audit_log, log_file
from vitsearch_evaluators.agent.address import Address, is_loopback
from vitsearch_evaluators.agent.api import Api
from vitsearch_evaluators.agent.device import Device
from vitsearch_evaluators.agent.http.listener import Encrypt
from vitsearch_evaluators.agent.http.server import Access, AgentServer
from vitsearch_evaluators.agent.worker import Worker
from vitsearch_evaluators.base import processes, tokens
from vitsearch_evaluators.base.atomic_files import write_json
from vitsearch_evaluators.base.system import THIS_MACHINE
from vitsearch_evaluators.conditions.emulation import system_of
from vitsearch_evaluators.conditions.environment import device_identity
from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest
from vitsearch_evaluators.measure import launch
from vitsearch_evaluators.measure.child_process import StopSignal
from vitsearch_evaluators.queue.blob_store import BlobStore, StoreLimits
from vitsearch_evaluators.queue.recovery import open_queue

logger = logging.getLogger(__name__)

# `serve_forever` looks at its own flag that often; each look disturbs what is measured.
_ACCEPT_POLL_S = 60.0


class AgentSettings(NamedTuple):
    """`port` 0 takes a free one; `port_file` then says which, as JSON {"port", "pid", ...}.

    A host that is not loopback speaks TLS, with `tls_cert` and `tls_key` or a certificate of the agent's
    own, unless `insecure_plaintext`; `tls` has loopback do so too. `token_file` None is one in the state.
    """

    state: str
    host: str = "127.0.0.1"
    port: int = 0
    token_file: Optional[str] = None
    tls: bool = False
    tls_cert: Optional[str] = None
    tls_key: Optional[str] = None
    insecure_plaintext: bool = False
    port_file: Optional[str] = None
    exit_with_stdin: bool = False


def serve(settings: AgentSettings, version: str) -> None:
    """Run an agent until SIGTERM, SIGINT or (if asked) the end of stdin. Main thread only."""
    processes.keep_memory_small()
    encrypted = wants_tls(settings)
    with _taken(settings.state):
        log_file.bound(os.path.join(settings.state, log_file.FILE_NAME))
        _run(settings, _assembled(settings, version, encrypted))


class _Parts(NamedTuple):
    """What runs until the agent ends. `fingerprint` is that of its certificate, None in the clear."""

    device: Device
    worker: Worker
    server: AgentServer
    fingerprint: Optional[str]


def _assembled(settings: AgentSettings, version: str, encrypted: bool) -> _Parts:
    """Put the parts together and listen; nothing is answered or measured yet."""
    configured = config.load(settings.state)
    for name, programs in configured.runtimes.items():
        launch.check(name, programs)  # what is misspelt would be as if nothing were configured
    token_file = settings.token_file or os.path.join(settings.state, tokens.FILE_NAME)
    if settings.token_file is None and not os.path.exists(token_file):
        tokens.write_tokens(token_file, (tokens.new_token(),))
    encryption = _encryption(settings) if encrypted else IN_THE_CLEAR
    door = Access(tokens.TokenFile(token_file), encryption.encrypt, configured.limits)
    system = system_of(configured.emulation, settings.state)
    power.check(configured.power, system)
    identity = device_identity(settings.state, emulated=configured.emulation is not None)
    store = BlobStore(settings.state, StoreLimits.of(configured.limits))
    log = audit_log.AuditLog(os.path.join(settings.state, audit_log.FILE_NAME))
    path = os.path.join(settings.state, "jobs.sqlite")
    pause = functools.partial(_pause, settings.exit_with_stdin)
    queue = open_queue(path, configured.limits, store, log.ended, pause)
    store.referenced = queue.referenced
    if not store.has_room():
        store.restore_reserve()
    work = os.path.join(settings.state, "work")
    device = Device(identity, version, configured, system)
    worker = Worker(queue, store, work, device)
    api = Api(device, store, queue, worker, log)
    try:
        server = AgentServer((settings.host, settings.port), api, door)
    except OSError as error:
        raise EvaluatorError("cannot_listen", f"cannot listen on {settings.host}:{settings.port}: {error}") from error
    return _Parts(device, worker, server, encryption.fingerprint)


def _run(settings: AgentSettings, parts: _Parts) -> None:
    """Measure and answer until a signal, the end of stdin, or a worker that cannot go on; EvaluatorError for that."""
    stop = StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    # The kernel may hand a signal to another thread; Python then runs the handler only when this one
    # wakes up, which it would not do by itself.
    signal.set_wakeup_fd(stop.wakeup_fileno())
    worker, port = parts.worker, parts.server.server_port
    worker.on_failure = stop.set
    worker.start()
    acceptor = threading.Thread(target=parts.server.serve_forever, args=(_ACCEPT_POLL_S,), daemon=True)
    acceptor.start()
    tell(settings, port, parts.fingerprint)
    if settings.port_file is not None:
        where = {"port": port, "device_id": parts.device.identity.device_id, "fingerprint": parts.fingerprint}
        write_json(settings.port_file, dict(where, pid=os.getpid()))
    try:
        _wait(stop, settings.exit_with_stdin)
    finally:
        # Requests are answered until the process ends: closing things under them would turn a
        # planned stop into errors at the clients. All state is on the disk already.
        worker.stop()
    if worker.failed:
        raise EvaluatorError(
            "worker", "the thread that measures could not go on: the log says why; start the agent again"
        )


def wants_tls(settings: AgentSettings) -> bool:
    """Whether to encrypt: on a network always, unless somebody says that they want it open."""
    given = settings.tls or settings.tls_cert is not None
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InvalidRequest("--tls-cert and --tls-key go together")
    if given and settings.insecure_plaintext:
        raise InvalidRequest("--insecure-plaintext is the opposite of --tls and --tls-cert")
    return given or not (settings.insecure_plaintext or is_loopback(settings.host))


class Encryption(NamedTuple):
    """How connections are encrypted, and what clients pin; None and None for not at all."""

    encrypt: Optional[Encrypt]
    fingerprint: Optional[str]


IN_THE_CLEAR = Encryption(None, None)


def _encryption(settings: AgentSettings) -> Encryption:
    from vitsearch_evaluators.base import tls  # a MB of memory for those who need it

    if settings.tls_cert is not None and settings.tls_key is not None:
        certificate = tls.read_certificate(settings.tls_cert, settings.tls_key)
    else:
        certificate = tls.own_certificate(settings.state, THIS_MACHINE)
    return Encryption(functools.partial(tls.accepted, context=tls.server_context(certificate)), certificate.fingerprint)


def tell(settings: AgentSettings, port: int, fingerprint: Optional[str]) -> None:
    """Say where the agent listens and how to make it known. Never the token: this is a log.

    At each start, for the address and the certificate may be others than at the first. Who gave a token
    file knows what to do.
    """
    address = Address.of(settings.host, port, fingerprint)
    logger.info("listening on %s%s", address.url, f", certificate {fingerprint}" if fingerprint else "")
    if fingerprint is None and not is_loopback(settings.host):
        logger.warning("tokens, models and results cross the network in the clear")
    if settings.token_file is not None:
        return
    if address.tunnel is not None:
        logger.info("from another machine, first: %s", address.tunnel)
    logger.info("on the machine that searches: %s", address.add)
    logger.info("it asks for the token, which `vitsearch-agent token --state %s` shows", settings.state)


def _taken(state: str) -> IO[Any]:
    """Make the state folder if it is not there, and lock it until the file that is returned is closed."""
    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
        lock = open(os.path.join(state, "lock"), "w")  # noqa: SIM115 - held as long as the agent lives
    except OSError as error:
        raise EvaluatorError(
            "state", f"--state {state}: {error.strerror}; it is a folder in which the agent's user may write"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise EvaluatorError("state_in_use", f"another agent uses {state}: stop it or give another --state") from error
    return lock


def _pause(exit_with_stdin: bool, seconds: float) -> None:
    """Wait while the agent cannot start yet; end it when nobody wants it any more."""
    watched = [sys.stdin.fileno()] if exit_with_stdin else []
    if select.select(watched, [], [], seconds)[0] and not os.read(sys.stdin.fileno(), 4096):
        raise SystemExit(0)


def _wait(stop: StopSignal, exit_with_stdin: bool) -> None:
    watched = [stop.fileno()]
    if exit_with_stdin:
        watched.append(sys.stdin.fileno())
    while True:
        ready = select.select(watched, [], [])[0]
        if stop.fileno() in ready or not os.read(sys.stdin.fileno(), 4096):
            return
