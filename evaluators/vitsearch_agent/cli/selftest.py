"""`vitsearch-agent selftest`: try everything on a device once, and write what happened to one file."""

import argparse
import json
import os
import platform
import sys
import tempfile

from vitsearch_agent import config
from vitsearch_agent.base import tls
from vitsearch_agent.base.atomic_files import write_bytes
from vitsearch_agent.base.plain_files import remove_tree, require_replaceable
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.cli.service import detect, install
from vitsearch_agent.cli.service.host import Host, Program
from vitsearch_agent.cli.terminal import say_prose
from vitsearch_agent.conditions.emulation import system_of
from vitsearch_agent.errors import AgentError, InvalidRequest
from vitsearch_agent.selftest.report import FAILED, PASSED, SKIPPED, Finding, StepResult
from vitsearch_agent.selftest.selftest import Subject, selftest


def run(arguments: argparse.Namespace) -> int:
    """Run the selftest, write its file and return the exit code: 1 if a step failed.

    Raises:
        InvalidRequest: The file cannot be written.
    """
    _writable(arguments.to)
    configured = config.load(arguments.state) if arguments.state is not None else config.NO_CONFIG
    system = THIS_MACHINE if arguments.state is None else system_of(configured.emulation, arguments.state)
    subject = Subject(system, arguments.state, installation)
    say_prose("This takes up to ten minutes, needs no network and changes nothing. End other programs first.")
    sys.stdout.flush()
    folder = tempfile.mkdtemp(prefix="vitsearch-selftest-")
    try:
        report = selftest(subject, folder, _show)
    finally:
        remove_tree(folder)
    text = json.dumps(report.to_json(), indent=1, sort_keys=True) + "\n"
    try:
        write_bytes(arguments.to, text.encode())
    except OSError as error:
        raise InvalidRequest(f"--to {arguments.to} cannot be written: {error.strerror}") from error
    failed = [step.name for step in report.steps if step.outcome == FAILED]
    verdict = f"failed: {', '.join(failed)}" if failed else "no step failed"
    size = f"{len(text) / 1000:.0f} kB"
    say_prose(f"{verdict}, {report.seconds:.0f} s; wrote {arguments.to} ({size}): send this file back")
    return 1 if failed else 0


def installation(folder: str) -> Finding:
    """Try what `install` and a start on a network need, without installing anything.

    Args:
        folder: Where a certificate may be made.
    """
    host, program = Host.current(), Program.current()
    details = {
        "python": platform.python_version(),
        "root": host.is_root,
        "archive": program.archive is not None,
        "systemd": None,
        "steps": [],
    }
    words = [f"Python {platform.python_version()}, as {'root' if host.is_root else 'a user without root'}"]
    try:
        tls.own_certificate(folder, THIS_MACHINE)
    except AgentError as error:
        return Finding(FAILED, f"{words[0]}; {error}", details)
    words.append("a certificate was made")
    try:
        manager = detect.current()
        lines = [step.describe() for step in install.install_steps(manager, {})]
    except InvalidRequest as error:
        return Finding(SKIPPED, f"{'; '.join(words)}; no service: {error}", details)
    words.append(f"`install` would take {len(lines)} steps")
    version = THIS_MACHINE.run(["systemctl", "--version"]).stdout.splitlines()[:1]
    return Finding(PASSED, "; ".join(words), dict(details, systemd=version, steps=lines))


def _show(step: StepResult) -> None:
    say_prose(f"{step.outcome:<7}  {step.name} ({step.seconds:.0f} s): {step.message}")
    sys.stdout.flush()  # it may be a pipe, such as that of ssh


def _writable(path: str) -> None:
    """Refuse a file that cannot be written before minutes of work."""
    try:
        require_replaceable(path)
        if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
            raise InvalidRequest(f"--to {path} cannot be written: its folder is not writable")
    except OSError as error:
        raise InvalidRequest(f"--to {path} cannot be written: {error.strerror}") from error
