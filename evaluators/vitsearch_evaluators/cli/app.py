"""`vitsearch-agent`: run the agent, install it as a service, or measure files without it."""

import argparse
import functools
import logging
import os
from typing import Optional, Sequence, Set

from vitsearch_evaluators import __version__, config
from vitsearch_evaluators.agent import agent
from vitsearch_evaluators.base import tokens
from vitsearch_evaluators.base.printable import printable
from vitsearch_evaluators.base.system import THIS_MACHINE
from vitsearch_evaluators.cli import verify_options
from vitsearch_evaluators.cli.service.options import DEFAULT, STATE
from vitsearch_evaluators.cli.terminal import complain, log_to_stderr
from vitsearch_evaluators.conditions.emulation import system_of
from vitsearch_evaluators.config import PowerConfig
from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest, MeasurementFailed
from vitsearch_evaluators.power.survey import survey
from vitsearch_evaluators.wire.protocol import PROTOCOLS

WRONG_CONFIGURATION = 78
"""The exit code for a configuration with which no start can succeed (EX_CONFIG of sysexits.h)."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command and return the exit code: 0, 1 when the work failed, 2 when it could not start.

    The agent exits with WRONG_CONFIGURATION when a person must fix its configuration, so that the service
    manager does not start it again.
    """
    arguments = parser().parse_args(argv)
    log_to_stderr(logging.DEBUG if arguments.verbose else logging.INFO)
    try:
        return int(arguments.run(arguments))
    except MeasurementFailed as failure:
        complain(failure)
        return 1
    except EvaluatorError as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        return 130


def parse_cpus(text: str) -> Set[int]:
    """Parse a processor list in the format of `taskset -c`: "1", "0,2-3"."""
    cpus: Set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    except ValueError:
        cpus = set()
    if not cpus:
        raise InvalidRequest(f"--cpus: expected a list like 1 or 0,2-3, got {text!r}")
    return cpus


def pin(cpus: Set[int]) -> None:
    """Restrict this process and its children to these processors."""
    if not hasattr(os, "sched_setaffinity"):
        raise InvalidRequest("--cpus: this system cannot pin processes")
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise InvalidRequest(f"--cpus {sorted(cpus)}: this process may use {allowed}") from error


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text}")
    return number


def _pin(arguments: argparse.Namespace) -> None:
    if arguments.cpus is not None:
        pin(parse_cpus(arguments.cpus))


def _serve(arguments: argparse.Namespace) -> int:
    try:
        _pin(arguments)
        agent.serve(_settings(arguments), __version__)
    except InvalidRequest as error:
        # InvalidRequest is only raised before the agent listens; later ones go to clients.
        complain(error)
        return WRONG_CONFIGURATION
    return 0


def _settings(arguments: argparse.Namespace) -> agent.AgentSettings:
    return agent.AgentSettings(
        state=arguments.state,
        host=arguments.host,
        port=arguments.port,
        token_file=arguments.token_file,
        tls=arguments.tls,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        insecure_plaintext=arguments.insecure_plaintext,
        port_file=arguments.port_file,
        references=arguments.references,
        exit_with_stdin=arguments.exit_with_stdin,
    )


def _install(arguments: argparse.Namespace) -> int:
    from vitsearch_evaluators.cli.service import install, managers  # kept out of the memory of a running agent

    options = {name: value for name, value in vars(arguments).items() if name in DEFAULT._fields}
    if "cpus" in options:
        parse_cpus(options["cpus"])
    echo = functools.partial(print, flush=True)  # keeps the order with errors when the output is not a terminal
    manager = managers.current()
    if arguments.dry_run:
        print("\n".join(install.describe(install.install_steps(manager, options))))
    else:
        install.install(manager, options, echo)
    return 0


def _uninstall(arguments: argparse.Namespace) -> int:
    from vitsearch_evaluators.cli.service import install, managers  # kept out of the memory of a running agent

    echo = functools.partial(print, flush=True)
    manager = managers.current()
    if arguments.dry_run:
        print("\n".join(install.describe(install.uninstall_steps(manager, arguments.purge))))
    else:
        install.uninstall(manager, arguments.purge, echo)
    return 0


def _token(arguments: argparse.Namespace) -> int:
    path = arguments.token_file or os.path.join(arguments.state, tokens.FILE_NAME)
    if arguments.rotate:
        print(tokens.rotate(path, arguments.keep_old))
        return 0
    if arguments.keep_old:
        raise InvalidRequest("--keep-old needs --rotate")
    print(tokens.read_tokens(path)[0])
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from vitsearch_evaluators.cli import status  # kept out of the memory of a running agent

    return status.run(arguments)


def _survey(arguments: argparse.Namespace) -> int:
    meters, system = PowerConfig(), THIS_MACHINE
    if arguments.state is not None:
        if not os.path.isdir(arguments.state):
            raise InvalidRequest(f"--state {arguments.state} is not the folder of an agent")
        configured = config.load(arguments.state)
        meters, system = configured.power, system_of(configured.emulation, arguments.state)
    readings = survey(meters, system)
    for reading in readings:
        text = reading.reason if reading.watts is None else f"{reading.watts:.3f} W ({reading.scope})"
        print(printable(f"{'*' if reading.in_use else ' '} {reading.name:<16} {text}"))
    return 0 if any(reading.in_use for reading in readings) else 1


def _measure(arguments: argparse.Namespace) -> int:
    from vitsearch_evaluators.cli import measure  # kept out of the memory of a running agent

    _pin(arguments)
    return measure.run(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    from vitsearch_evaluators.cli import verify  # kept out of the memory of a running agent

    _pin(arguments)
    return verify.run(arguments)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="vitsearch-agent", description="Measure exported models on this device.")
    top.add_argument("--version", action="version", version=f"vitsearch-agent {__version__}")
    top.add_argument("--verbose", action="store_true", help="log every request")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    serve = commands.add_parser("serve", help="run the agent: accept jobs and measure one at a time")
    serve.add_argument("--state", required=True, help="folder for models, queue and device id")
    serve.add_argument(
        "--references", help="file for the times of the reference models (default: references.json in the state folder)"
    )
    serve.add_argument("--port-file", help="write port and pid to this file as JSON when the agent listens")
    serve.add_argument("--exit-with-stdin", action="store_true", help="exit when stdin is closed, and keep no models")
    serve.set_defaults(run=_serve)
    setup = commands.add_parser(
        "install",
        argument_default=argparse.SUPPRESS,
        help="install the agent as a service, which starts at boot if installed as root, otherwise at login; "
        "run again to upgrade or change it",
    )
    setup.add_argument("--state", help=f"folder for models, queue and device id (default as root: {STATE})")
    setup.add_argument("--user", help=f"account to run as, created if missing; only as root (default: {DEFAULT.user})")
    setup.set_defaults(run=_install)
    removal = commands.add_parser("uninstall", help="remove the service; the measurements are kept")
    removal.add_argument("--purge", action="store_true", help="also remove the state (token, queue) and the account")
    removal.set_defaults(run=_uninstall)
    for command in (setup, removal):
        command.add_argument("--dry-run", action="store_true", default=False, help="only show the files and commands")
    for command in (serve, setup):
        _add_listening(command)
    serve.set_defaults(host=DEFAULT.host, port=0)
    token = commands.add_parser("token", help="show the token that clients must send, or make a new one")
    token.add_argument("--state", required=True, help="folder of the agent")
    token.add_argument("--token-file", help="the agent's --token-file, if it has one")
    token.add_argument("--rotate", action="store_true", help="make a new token; a running agent uses it at once")
    token.add_argument("--keep-old", action="store_true", help="the old token stays valid until the next rotation")
    token.set_defaults(run=_token)
    state = commands.add_parser("status", help="show whether the agent runs, and what measured models are kept from")
    state.add_argument("--state", required=True, help="folder of the agent")
    state.set_defaults(run=_status)
    meters = commands.add_parser("power", help="read every power meter of this device, or show why it cannot be read")
    meters.add_argument("--state", help="folder of the agent, for its config.json")
    meters.set_defaults(run=_survey)
    measure = commands.add_parser("measure", help="measure a file and print the result, or several in a table")
    _add_measure(measure)
    check = commands.add_parser(
        "verify",
        help="verify a bundle: its files, its accuracy and its measurements",
        epilog="The exit code is 0 if it passed, 1 if a check failed, 2 if there is no bundle to verify, and 3 if only "
        "checksums were judged because the model cannot run here (0 with --no-measure).",
    )
    verify_options.add_options(check)
    check.set_defaults(run=_verify)
    for command in (serve, setup, measure):
        command.add_argument("--cpus", help="processors to use, such as 1 or 0,2-3 (default: all)")
    return top


def _add_measure(measure: argparse.ArgumentParser) -> None:
    measure.add_argument(
        "models", nargs="+", metavar="MODEL", help="an ONNX or TFLite file, or the .xml of an OpenVINO pair"
    )
    measure.add_argument("--runtime", default="onnxruntime", help="runtime to use (default: %(default)s)")
    measure.add_argument(
        "--program", metavar="PATH", help="interpreter or program that runs the model (default: the first one found)"
    )
    measure.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the runtime; repeat for several",
    )
    measure.add_argument(
        "--protocol",
        choices=sorted(PROTOCOLS),
        default="screen",
        help="screen: 2 to 5 processes of 1 s or more; confirm: 5 to 10 of 1.6 s or more (default: %(default)s)",
    )
    measure.add_argument("--threads", type=int, default=1, help="threads of one inference (default: %(default)s)")
    measure.add_argument("--batch", type=int, help="images per inference (default: the model's own, 1 if it is open)")
    measure.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=SIZES",
        help="the shape of an input that has open dimensions other than the batch, such as images=1,3,640,640; repeat "
        "for several",
    )
    measure.add_argument(
        "--throughput",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="also measure throughput for this long, with --streams inferences at a time (default: not measured)",
    )
    measure.add_argument(
        "--streams", type=int, default=1, help="inferences at a time for --throughput (default: %(default)s)"
    )
    measure.add_argument(
        "--soak",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="also measure after this much load (default: not measured)",
    )
    # Two options, because an option with an optional value would take a following file for the meter's name.
    measure.add_argument("--power", action="store_const", const="auto", dest="meter", help="also measure power")
    measure.add_argument("--meter", metavar="NAME", help="also measure power, with this meter")
    measure.add_argument("--json", action="store_true", help="print all fields as JSON (several files: a list)")
    measure.set_defaults(run=_measure)


def _add_listening(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", help=f"address to listen on (default: {DEFAULT.host})")
    command.add_argument(
        "--port", type=_port, help=f"port to listen on (default of serve: a free one; of install: {DEFAULT.port})"
    )
    command.add_argument("--token-file", help="file with the token that clients must send (default: in --state)")
    command.add_argument("--tls", action="store_true", help="use TLS on loopback too; other addresses always use it")
    command.add_argument(
        "--tls-cert", metavar="PEM", help="certificate (default: a self-signed one, made at the first start)"
    )
    command.add_argument("--tls-key", metavar="PEM", help="key of the certificate")
    command.add_argument(
        "--insecure-plaintext",
        action="store_true",
        help="no TLS: everybody on the network can read token, models and results",
    )
