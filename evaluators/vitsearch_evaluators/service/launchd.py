"""The agent as a launch agent of macOS: it runs while its person is logged in. Not tried on a Mac (see INSTALL.md)."""

import json
import os
import plistlib
from typing import Sequence
from xml.parsers.expat import ExpatError

from vitsearch_evaluators.canonical import parse_json
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.service.wanted import Wanted

LABEL = "vitsearch-agent"

_INSTALLED = "VitsearchInstalled"  # launchd passes over keys that it does not know


def property_list(command: Sequence[str], wanted: Wanted, state: str) -> str:
    """Return the file for ~/Library/LaunchAgents (launchd.plist(5)).

    launchd cannot be told which exit codes are final: a wrong configuration is tried again every minute.
    """
    content = {
        "Label": LABEL,
        "ProgramArguments": [*command, *wanted.serve_arguments(state)],
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 60,
        "ProcessType": "Interactive",  # anything else is slowed down, and so is what it measures
        "Umask": 0o077,
        "StandardErrorPath": os.path.join(state, "agent.log"),
        _INSTALLED: json.dumps(wanted.to_json(), sort_keys=True),
    }
    return plistlib.dumps(content).decode("utf-8")


def remembered(text: str, path: str) -> Wanted:
    """Return with what an installed file was made; InvalidRequest when `install` did not make it."""
    try:
        return Wanted.from_json(parse_json(plistlib.loads(text.encode())[_INSTALLED].encode()), path)
    except (ValueError, KeyError, TypeError, AttributeError, ExpatError, plistlib.InvalidFileException) as error:
        raise InvalidRequest(f"{path} was not written by `vitsearch-agent install`: move it away first") from error
