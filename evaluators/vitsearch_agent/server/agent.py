"""The whole agent: its state folder, its parts, its start and its end."""

import functools
import logging
import os
import select
import signal
import stat
import sys
import threading
from typing import IO, Any, NamedTuple, Optional

from vitsearch_agent import config, power
from vitsearch_agent.base import locks, processes, tokens
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.conditions.emulation import system_of
from vitsearch_agent.conditions.hardware import hardware_of
from vitsearch_agent.conditions.processor import translator
from vitsearch_agent.errors import AgentError, InvalidRequest
from vitsearch_agent.measure import launch
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.queue.blob_store import BlobStore, StoreLimits
from vitsearch_agent.queue.recovery import open_queue
from vitsearch_agent.server import audit_log, log_file, restrictions
from vitsearch_agent.server.address import Address, is_loopback
from vitsearch_agent.server.api import Api
from vitsearch_agent.server.device import Device
from vitsearch_agent.server.http.listener import Encrypt
from vitsearch_agent.server.http.server import Access, AgentServer
from vitsearch_agent.server.identity import device_identity
from vitsearch_agent.server.worker import Worker

logger = logging.getLogger(__name__)

# How often `serve_forever` wakes up to check its flag; each time disturbs a measurement.
_ACCEPT_POLL_S = 60.0


class AgentSettings(NamedTuple):
    """Options of the service. With `port` 0 it takes a free port and writes it to `port_file`, a JSON object.

    On a host that is not loopback it uses TLS unless `insecure_plaintext` is set, with `tls_cert` and `tls_key` or a
    certificate of its own; with `tls` it does so on loopback too. Without `token_file` the tokens are in the state
    folder. What is known of the reference models is kept in the file `references`, by default in the state folder.
    With `exit_with_stdin` it ends with the process that has started it, which has the models: it keeps none of them.
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
    references: Optional[str] = None
    exit_with_stdin: bool = False


def serve(settings: AgentSettings, version: str) -> None:
    """Run an agent until SIGTERM, SIGINT or, with `exit_with_stdin`, the end of stdin. Main thread only."""
    processes.keep_memory_small()
    os.umask(0o077)  # models, queue and log are for this user alone, in a folder that somebody else has made too
    encrypted = wants_tls(settings)
    if os.geteuid() == 0:
        logger.warning("%s", restrictions.ROOT_WARNING)
    with _lock_state(settings.state):
        log_file.limit_size(os.path.join(settings.state, log_file.FILE_NAME))
        _run(settings, _assemble(settings, version, encrypted))


class _Parts(NamedTuple):
    """The running parts of the agent; `fingerprint` belongs to its certificate, None without TLS."""

    device: Device
    worker: Worker
    store: BlobStore
    server: AgentServer
    fingerprint: Optional[str]


def _assemble(settings: AgentSettings, version: str, encrypted: bool) -> _Parts:
    """Create the parts and listen; nothing is answered or measured yet."""
    configured = config.load(settings.state)
    for name, programs in configured.runtimes.items():
        launch.check(name, programs)  # a misspelt name would otherwise have no effect
    token_file = settings.token_file or os.path.join(settings.state, tokens.FILE_NAME)
    if settings.token_file is None and not os.path.exists(token_file):
        tokens.write_tokens(token_file, (tokens.new_token(),))
    encryption = _encryption(settings) if encrypted else NO_ENCRYPTION
    access = Access(tokens.TokenFile(token_file), encryption.encrypt, configured.limits)
    system = system_of(configured.emulation, settings.state)
    power.check(configured.power, system)
    emulated = configured.emulation is not None or translator(system) is not None
    identity = device_identity(settings.state, hardware_of(system), emulated)
    store = BlobStore(settings.state, StoreLimits.of(configured.limits))
    log = audit_log.AuditLog(os.path.join(settings.state, audit_log.FILE_NAME))
    path = os.path.join(settings.state, "jobs.sqlite")
    pause = functools.partial(_pause, settings.exit_with_stdin)
    queue = open_queue(path, configured.limits, store, log.ended, pause)
    store.referenced = queue.referenced
    if settings.exit_with_stdin:
        store.drop_unneeded()  # of an agent that was killed
    if not store.has_room():
        store.restore_reserve()
    work = os.path.join(settings.state, "work")
    device = Device(identity, version, configured, system)
    references = ReferenceStore(settings.references or os.path.join(settings.state, "references.json"))
    device.secrets = tuple(path for path in (token_file, settings.tls_key) if path is not None)
    worker = Worker(queue, store, work, device, references)
    api = Api(device, store, queue, worker, log)
    try:
        server = AgentServer((settings.host, settings.port), api, access)
    except OSError as error:
        raise AgentError("cannot_listen", f"cannot listen on {settings.host}:{settings.port}: {error}") from error
    return _Parts(device, worker, store, server, encryption.fingerprint)


def _run(settings: AgentSettings, parts: _Parts) -> None:
    """Measure and answer until a signal or the end of stdin; AgentError if the worker failed."""
    stop = StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    # The kernel may deliver a signal to another thread. Python then runs the handler only when this thread wakes up,
    # and the wake-up descriptor makes it do so.
    signal.set_wakeup_fd(stop.wakeup_fileno())
    worker, port = parts.worker, parts.server.server_port
    worker.on_failure = stop.set
    worker.start()
    acceptor = threading.Thread(target=parts.server.serve_forever, args=(_ACCEPT_POLL_S,), daemon=True)
    acceptor.start()
    log_address(settings, port, parts.fingerprint)
    if settings.port_file is not None:
        where = {"port": port, "device_id": parts.device.identity.device_id, "fingerprint": parts.fingerprint}
        write_json(settings.port_file, dict(where, pid=os.getpid()))
    try:
        _wait(stop, settings.exit_with_stdin)
    finally:
        # The server answers requests until the process ends: closing the parts earlier would cause errors in the
        # clients. All state is already on the disk.
        worker.stop()
        if settings.exit_with_stdin:
            parts.store.drop_unneeded()
            parts.store.drop_unfinished()
    if worker.failed:
        raise AgentError("worker", "the measuring thread failed: see the log; start the agent again")


def wants_tls(settings: AgentSettings) -> bool:
    """Whether to use TLS: on a network always, unless plain text is requested. InvalidRequest for contradictions."""
    is_requested = settings.tls or settings.tls_cert is not None
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InvalidRequest("--tls-cert and --tls-key must be given together")
    if is_requested and settings.insecure_plaintext:
        raise InvalidRequest("--insecure-plaintext cannot be combined with --tls or --tls-cert")
    return is_requested or not (settings.insecure_plaintext or is_loopback(settings.host))


class Encryption(NamedTuple):
    """How to encrypt connections, and the fingerprint that clients pin; both None without TLS."""

    encrypt: Optional[Encrypt]
    fingerprint: Optional[str]


NO_ENCRYPTION = Encryption(None, None)


def _encryption(settings: AgentSettings) -> Encryption:
    from vitsearch_agent.base import tls  # imported only if needed: it costs a MB of memory

    if settings.tls_cert is not None and settings.tls_key is not None:
        certificate = tls.read_certificate(settings.tls_cert, settings.tls_key)
    else:
        certificate = tls.own_certificate(settings.state, THIS_MACHINE)
    return Encryption(functools.partial(tls.accepted, context=tls.server_context(certificate)), certificate.fingerprint)


def log_address(settings: AgentSettings, port: int, fingerprint: Optional[str]) -> None:
    """Log the address and the commands that register the device, without the token.

    It logs them at each start, because address and certificate may change. It omits the commands if a token file was
    given, because its owner then knows how to register the device.
    """
    address = Address.of(settings.host, port, fingerprint)
    logger.info("listening on %s%s", address.url, f", certificate {fingerprint}" if fingerprint else "")
    if fingerprint is None and not is_loopback(settings.host):
        logger.warning("tokens, models and results cross the network unencrypted")
    if settings.token_file is not None:
        return
    if address.tunnel is not None:
        logger.info("from another machine, first: %s", address.tunnel)
    logger.info("on the machine that searches: %s", address.add)
    logger.info("it asks for the token; `vitsearch-agent token --state %s` shows it", settings.state)


def _lock_state(state: str) -> IO[Any]:
    """Create the state folder if necessary and lock it; closing the returned file releases the lock."""
    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
        _make_private(state)
        lock = locks.try_lock(os.path.join(state, locks.STATE))
    except OSError as error:
        raise AgentError(
            "state", f"--state {state}: {error.strerror}; it must be a folder that the agent's user can write to"
        ) from error
    if lock is None:
        raise AgentError("state_in_use", f"another agent uses {state}: stop it or pass another --state")
    return lock


def _make_private(state: str) -> None:
    """Keep other users out of a state folder that somebody has made; AgentError where all may write in it, and so may
    have left something there."""
    mode = stat.S_IMODE(os.stat(state).st_mode)
    if mode & stat.S_ISVTX:
        raise AgentError(
            "state", f"--state {state}: its mode is {mode:04o}, so that all users share it; name another one"
        )
    if mode & stat.S_IWOTH:
        raise AgentError("state", f"--state {state}: everybody may write in it (mode {mode:o}): chmod 700 {state}")
    if mode & 0o077:
        os.chmod(state, 0o700)
        logger.warning(
            "the mode of the state folder %s was %04o; it is 0700 now, because a token is in it", state, mode
        )


def _pause(exit_with_stdin: bool, seconds: float) -> None:
    """Wait while the agent cannot start yet; SystemExit at the end of a watched stdin."""
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
