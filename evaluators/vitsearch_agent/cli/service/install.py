"""`vitsearch-agent install` and `uninstall`: run the steps, wait for the agent, print how to connect to it."""

import os
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence

from vitsearch_agent import __version__
from vitsearch_agent.base import tls
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.cli.service.manager import Manager
from vitsearch_agent.cli.service.options import DEFAULT, PORT_FILE, ServiceOptions
from vitsearch_agent.cli.service.steps import RemoveTree, Step, shell_line
from vitsearch_agent.errors import AgentError, InvalidRequest
from vitsearch_agent.server.address import Address
from vitsearch_agent.server.agent import wants_tls

_START_S, _POLL_S = 60.0, 0.5

Echo = Callable[[str], None]


class _Listening(NamedTuple):
    port: int
    fingerprint: Optional[str]


def install(manager: Manager, overrides: Mapping[str, Any], echo: Echo) -> None:
    """Install the service, or upgrade and restart it; options without `overrides` stay as installed.

    Raises InvalidRequest when the service could not run, AgentError when a step fails or the agent does
    not start to listen.
    """
    options = _options(manager, overrides)
    _run(install_steps(manager, overrides), manager, echo)
    for line in _report(manager, options, _wait(manager, options)):
        echo(line)


def install_steps(manager: Manager, overrides: Mapping[str, Any]) -> List[Step]:
    """Return the steps of `install` up to the start of the agent."""
    options = _options(manager, overrides)
    _check_openssl(manager, options)
    return manager.install_steps(options)


def uninstall(manager: Manager, purge: bool, echo: Echo) -> None:
    """Stop and remove the service; with `purge` also its state and its account."""
    steps, state = uninstall_steps(manager, purge), _state(manager)
    _run(steps, manager, echo)
    if not steps:
        echo("no service is installed")
    if os.path.isdir(manager.system.at(state)):
        why = "no agent has used it" if purge else "queue, device id, token and certificate; --purge removes it too"
        echo(f"{state} is kept: {why}")


def uninstall_steps(manager: Manager, purge: bool) -> List[Step]:
    """Return the steps of `uninstall`."""
    steps, state = manager.uninstall_steps(), _state(manager)
    if not purge:
        return steps
    if os.path.exists(manager.system.at(os.path.join(state, "lock"))):  # only a folder that an agent has used
        steps.append(RemoveTree(state))
    return steps + manager.account_steps(manager.installed() or DEFAULT)


def _options(manager: Manager, overrides: Mapping[str, Any]) -> ServiceOptions:
    """Return the options: those given now, else the installed ones, else the defaults."""
    return (manager.installed() or DEFAULT).with_options(overrides).checked()


def _state(manager: Manager) -> str:
    return manager.state_of(manager.installed() or DEFAULT)


def describe(steps: Sequence[Step]) -> List[str]:
    """Return the lines of --dry-run: every command, and every file with its content."""
    lines = []
    for step in steps:
        lines.append(step.describe())
        lines += [f"    {line}".rstrip() for line in (step.content() or "").splitlines()]
    return lines


def _run(steps: Sequence[Step], manager: Manager, echo: Echo) -> None:
    for step in steps:
        echo(step.describe())
        try:
            step.do(manager.system)
        except OSError as error:
            raise AgentError("install", f"{step.describe()}: {error.strerror or error}") from error


def _check_openssl(manager: Manager, options: ServiceOptions) -> None:
    """Raise InvalidRequest if openssl is needed but missing; otherwise only the service's log would show it."""
    if not wants_tls(options.settings("")) or options.tls_cert is not None:
        return
    if os.path.exists(manager.system.at(os.path.join(manager.state_of(options), tls.FILE_NAME))):
        return
    reason = manager.system.run(("openssl", "version")).reason
    if reason is not None:
        raise InvalidRequest(
            f"the agent makes its certificate with openssl: {reason}. Install openssl, or use --tls-cert and --tls-key"
        )


def _wait(manager: Manager, options: ServiceOptions) -> _Listening:
    """Wait until the agent has written its port file, and return its content."""
    path = os.path.join(manager.state_of(options), PORT_FILE)
    end = manager.system.clock() + _START_S
    while True:
        text = manager.system.read(path).text
        if text:
            return _read(text, path)
        if manager.has_failed() or manager.system.clock() > end:
            log = manager.recent_log() or "(empty, or not readable for this user)"
            message = f"the agent is installed, but does not listen. {manager.log}:"
            raise AgentError("install", message, details={"output_tail": log + "\n"})
        manager.system.sleep(_POLL_S)


def _read(text: str, path: str) -> _Listening:
    # The agent's account wrote the file, and another account prints it, so the content is not trusted.
    try:
        content = parse_json(text.encode())
        fingerprint = content["fingerprint"]
        return _Listening(int(content["port"]), fingerprint and tls.checked_fingerprint(fingerprint))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AgentError("install", f"{path} is invalid: {error}") from error


def _report(manager: Manager, options: ServiceOptions, listening: _Listening) -> List[str]:
    state = manager.state_of(options)
    address = Address.of(options.host, listening.port, listening.fingerprint)
    show_token = [*manager.command(), "token", "--state", state]
    if options.token_file is not None:
        show_token += ["--token-file", options.token_file]
    lines = ["", f"vitsearch-agent {__version__} listens on {address.url}; log: {manager.log}", *manager.notes()]
    if listening.fingerprint is None and address.tunnel is None:
        lines.append("WARNING: tokens, models and results cross the network without encryption")
    if address.tunnel is not None:
        lines.append(f"from another machine, first run: {address.tunnel}")
    lines.append(f"on the machine that searches, run: {address.add}")
    return [*lines, f"it asks for the token; to show it, run here: {manager.as_root}{shell_line(show_token)}"]
