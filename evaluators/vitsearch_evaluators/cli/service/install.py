"""`vitsearch-agent install` and `uninstall`: tell or carry out the steps, wait for the agent, say how to reach it."""

import os
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence

from vitsearch_evaluators import __version__
from vitsearch_evaluators.agent.address import Address
from vitsearch_evaluators.agent.agent import wants_tls
from vitsearch_evaluators.base import tls
from vitsearch_evaluators.base.canonical_json import parse_json
from vitsearch_evaluators.cli.service.manager import Manager
from vitsearch_evaluators.cli.service.options import DEFAULT, PORT_FILE, ServiceOptions
from vitsearch_evaluators.cli.service.steps import RemoveTree, Step, shell_line
from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest

_START_S, _LOOK_S = 60.0, 0.5

Say = Callable[[str], None]


class _Listening(NamedTuple):
    port: int
    fingerprint: Optional[str]


def install(manager: Manager, given: Mapping[str, Any], say: Say) -> None:
    """Install, or bring up to date and start again. What is not `given` stays as it was installed.

    InvalidRequest when it could not run; EvaluatorError when a step fails or the agent does not come up.
    """
    options = _options(manager, given)
    _carry_out(install_steps(manager, given), manager, say)
    for line in _report(manager, options, _wait(manager, options)):
        say(line)


def install_steps(manager: Manager, given: Mapping[str, Any]) -> List[Step]:
    """Return what `install` does before it waits for the agent."""
    options = _options(manager, given)
    _check_openssl(manager, options)
    return manager.install_steps(options)


def uninstall(manager: Manager, purge: bool, say: Say) -> None:
    """End the service and take it away; with `purge` its state and its account too."""
    steps, state = uninstall_steps(manager, purge), _state(manager)
    _carry_out(steps, manager, say)
    if not steps:
        say("nothing is installed here")
    if os.path.isdir(manager.system.at(state)):
        why = "no agent has used it" if purge else "queue, device id, token and certificate; --purge takes it away too"
        say(f"{state} is kept: {why}")


def uninstall_steps(manager: Manager, purge: bool) -> List[Step]:
    """Return what `uninstall` does."""
    steps, state = manager.uninstall_steps(), _state(manager)
    if not purge:
        return steps
    if os.path.exists(manager.system.at(os.path.join(state, "lock"))):  # a folder that an agent had
        steps.append(RemoveTree(state))
    return steps + manager.account_steps(manager.installed() or DEFAULT)


def _options(manager: Manager, given: Mapping[str, Any]) -> ServiceOptions:
    """Return what is asked for: what is given now, else what is installed, else as it always is."""
    return (manager.installed() or DEFAULT).with_options(given).checked()


def _state(manager: Manager) -> str:
    return manager.state_of(manager.installed() or DEFAULT)


def describe(steps: Sequence[Step]) -> List[str]:
    """Return every command and every file with its content, for --dry-run."""
    lines = []
    for step in steps:
        lines.append(step.describe())
        lines += [f"    {line}".rstrip() for line in (step.content() or "").splitlines()]
    return lines


def _carry_out(steps: Sequence[Step], manager: Manager, say: Say) -> None:
    for step in steps:
        say(step.describe())
        try:
            step.do(manager.system)
        except OSError as error:
            raise EvaluatorError("install", f"{step.describe()}: {error.strerror or error}") from error


def _check_openssl(manager: Manager, options: ServiceOptions) -> None:
    """Say it now: else the service would be started again and again, and only its log would say why."""
    if not wants_tls(options.settings("")) or options.tls_cert is not None:
        return
    if os.path.exists(manager.system.at(os.path.join(manager.state_of(options), tls.FILE_NAME))):
        return
    reason = manager.system.run(("openssl", "version")).reason
    if reason is not None:
        raise InvalidRequest(
            f"the agent makes its certificate with openssl: {reason}. Install it, or give --tls-cert and --tls-key"
        )


def _wait(manager: Manager, options: ServiceOptions) -> _Listening:
    """Wait until the agent has written where it listens."""
    path = os.path.join(manager.state_of(options), PORT_FILE)
    end = manager.system.clock() + _START_S
    while True:
        text = manager.system.read(path).text
        if text:
            return _read(text, path)
        if manager.has_failed() or manager.system.clock() > end:
            said = manager.recent_log() or "(nothing, or nothing that you may read)"
            raise EvaluatorError("install", f"the agent is installed, but does not listen. {manager.log}:\n{said}")
        manager.system.sleep(_LOOK_S)


def _read(text: str, path: str) -> _Listening:
    # The agent's account wrote it, which is not the one that shows it.
    try:
        found = parse_json(text.encode())
        fingerprint = found["fingerprint"]
        return _Listening(int(found["port"]), fingerprint and tls.checked_fingerprint(fingerprint))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluatorError("install", f"{path}: not understood: {error}") from error


def _report(manager: Manager, options: ServiceOptions, listening: _Listening) -> List[str]:
    state = manager.state_of(options)
    address = Address.of(options.host, listening.port, listening.fingerprint)
    shown = [*manager.command(), "token", "--state", state]
    if options.token_file is not None:
        shown += ["--token-file", options.token_file]
    lines = ["", f"vitsearch-agent {__version__} listens on {address.url}; its log: {manager.log}", *manager.notes()]
    if listening.fingerprint is None and address.tunnel is None:
        lines.append("WARNING: tokens, models and results cross the network in the clear")
    if address.tunnel is not None:
        lines.append(f"from another machine, first: {address.tunnel}")
    lines.append(f"on the machine that searches: {address.add}")
    return [*lines, f"it asks for the token, which this shows here: {manager.as_root}{shell_line(shown)}"]
