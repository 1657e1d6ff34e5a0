"""Which restrictions of the measuring children hold on this device: found at each start, logged and kept in a file."""

import contextlib
import logging
import os
from typing import Optional, Sequence, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.restriction import Restriction

logger = logging.getLogger(__name__)

FILE_NAME = "restrictions.json"

ROOT_WARNING = (
    "the agent runs as root: a model that it measures is as powerful; give the agent its own user, as "
    "`vitsearch-agent install` does"
)


def text(restriction: Restriction) -> str:
    """Return a restriction as a line."""
    return f"{restriction.name:<9} {'yes' if restriction.holds else 'NO '}  {restriction.detail}"


def keep(state: str, restrictions: Sequence[Restriction]) -> None:
    """Log the restrictions, and write them into the state folder for `vitsearch-agent status`."""
    logger.info(
        "restrictions of children: %s", "; ".join(" ".join(text(restriction).split()) for restriction in restrictions)
    )
    with contextlib.suppress(OSError):
        write_json(os.path.join(state, FILE_NAME), [restriction.to_json() for restriction in restrictions])


def kept(state: str) -> Optional[Tuple[Restriction, ...]]:
    """Return what the last agent on this state folder found; None if there was none, or its file is damaged."""
    try:
        with open(os.path.join(state, FILE_NAME), "rb") as stream:
            return tuple(json_reader.sequence(Restriction.from_json)(parse_json(stream.read()), FILE_NAME))
    except (OSError, ValueError, InvalidRequest):
        return None
