"""`vitsearch-agent`: run the agent, install it as a service, or measure files without it."""

import argparse
import functools
import logging
import os
from typing import Callable, Dict, Optional, Sequence, Set

from vitsearch_agent import __version__, config
from vitsearch_agent.base import tokens
from vitsearch_agent.base.printable import printable
from vitsearch_agent.base.python import safe_path
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.cli.parser import parser
from vitsearch_agent.cli.service.options import DEFAULT
from vitsearch_agent.cli.terminal import complain, log_to_stderr
from vitsearch_agent.conditions.emulation import system_of
from vitsearch_agent.config import PowerConfig
from vitsearch_agent.errors import AgentError, InvalidRequest, MeasurementFailed
from vitsearch_agent.power.survey import survey
from vitsearch_agent.server import agent

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
        with safe_path():  # from 3.13 on, Python imports `linecache` before the first line of `-c`
            return _COMMANDS[arguments.command](arguments)
    except MeasurementFailed as failure:
        complain(failure)
        return 1
    except AgentError as error:
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
    from vitsearch_agent.cli.service import detect, install  # kept out of the memory of a running agent

    options = {name: value for name, value in vars(arguments).items() if name in DEFAULT._fields}
    if "cpus" in options:
        parse_cpus(options["cpus"])
    echo = functools.partial(print, flush=True)  # keeps the order with errors when the output is not a terminal
    manager = detect.current()
    if arguments.dry_run:
        print("\n".join(install.describe(install.install_steps(manager, options))))
    else:
        install.install(manager, options, echo)
    return 0


def _uninstall(arguments: argparse.Namespace) -> int:
    from vitsearch_agent.cli.service import detect, install  # kept out of the memory of a running agent

    echo = functools.partial(print, flush=True)
    manager = detect.current()
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
    from vitsearch_agent.cli import status  # kept out of the memory of a running agent

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
    from vitsearch_agent.cli import measure  # kept out of the memory of a running agent

    _pin(arguments)
    return measure.run(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    from vitsearch_agent.cli import verify  # kept out of the memory of a running agent

    _pin(arguments)
    return verify.run(arguments)


def _selftest(arguments: argparse.Namespace) -> int:
    from vitsearch_agent.cli import selftest  # kept out of the memory of a running agent

    return selftest.run(arguments)


_COMMANDS: Dict[str, Callable[[argparse.Namespace], int]] = {
    "serve": _serve,
    "install": _install,
    "uninstall": _uninstall,
    "token": _token,
    "status": _status,
    "power": _survey,
    "measure": _measure,
    "verify": _verify,
    "selftest": _selftest,
}
