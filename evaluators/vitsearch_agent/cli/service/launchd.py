"""The agent as a launch agent of macOS, which runs while the user is logged in. Not tried on a Mac (see INSTALL.md)."""

import json
import os
import plistlib
from typing import List, Sequence
from xml.parsers.expat import ExpatError

from vitsearch_agent.base import single_file
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.base.system import System
from vitsearch_agent.cli.service.host import Host, Program
from vitsearch_agent.cli.service.manager import NO_SESSION, Manager
from vitsearch_agent.cli.service.options import ServiceOptions
from vitsearch_agent.cli.service.steps import Command, Step
from vitsearch_agent.errors import InvalidRequest

LABEL = "vitsearch-agent"

_INSTALLED = "VitsearchInstalled"  # launchd ignores unknown keys


def property_list(command: Sequence[str], options: ServiceOptions, state: str) -> str:
    """Return the file for ~/Library/LaunchAgents (launchd.plist(5)).

    launchd has no setting for final exit codes: with a wrong configuration the agent is started again every minute.
    """
    content = {
        "Label": LABEL,
        "ProgramArguments": [*command, *options.serve_arguments(state)],
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 60,
        "ProcessType": "Interactive",  # other types are throttled, and the measurements with them
        "Umask": 0o077,
        "WorkingDirectory": "/",  # not a home, whose files are not code: `python -m` looks for modules there
        "StandardErrorPath": os.path.join(state, "agent.log"),
        _INSTALLED: json.dumps(options.to_json(), sort_keys=True),
    }
    return plistlib.dumps(content).decode("utf-8")


def parse_options(text: str, path: str) -> ServiceOptions:
    """Return the options in an installed file; InvalidRequest when `install` did not write it."""
    try:
        return ServiceOptions.from_json(parse_json(plistlib.loads(text.encode())[_INSTALLED].encode()), path)
    except (ValueError, KeyError, TypeError, AttributeError, ExpatError, plistlib.InvalidFileException) as error:
        raise InvalidRequest(f"{path} was not written by `vitsearch-agent install`: move it away") from error


class Launchd(Manager):
    """A launch agent of macOS."""

    def __init__(self, host: Host, program: Program, system: System) -> None:
        super().__init__(host, program, system)
        self.definition = f"{host.home}/Library/LaunchAgents/{LABEL}.plist"
        self.archive = f"{host.home}/Library/Application Support/vitsearch/{single_file.NAME}"
        self.state = f"{host.home}/Library/Application Support/vitsearch/state"

    @property
    def log(self) -> str:
        return f"tail '{self.state}/agent.log'"

    def notes(self) -> List[str]:
        return ["the agent starts when you log in"]

    def _parse_options(self, text: str) -> ServiceOptions:
        return parse_options(text, self.definition)

    def _definition(self, options: ServiceOptions, state: str) -> str:
        return property_list(self.command(), options, state)

    def _start(self) -> List[Step]:
        return [Command(("launchctl", "load", "-w", self.definition), NO_SESSION)]

    def _stop(self) -> List[Step]:
        return [Command(("launchctl", "unload", self.definition), NO_SESSION)]

    def _disable(self) -> Step:
        return Command(("launchctl", "unload", "-w", self.definition), NO_SESSION)
