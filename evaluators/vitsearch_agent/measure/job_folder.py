"""The folder in which the children of a job run: what they must not reach from there, and the reports they leave."""

import functools
import logging
import os
import sys
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple, TypeVar

from vitsearch_agent.base import inherited
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.base.inherited import Inherited
from vitsearch_agent.base.plain_files import read_plain
from vitsearch_agent.base.processes import ProcessId
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure.child_process import ANSWER_MAX_BYTES, StopSignal, child_environment, run_child
from vitsearch_agent.measure.launch import THIS_PYTHON, Launch
from vitsearch_agent.measure.memory_limit import NO_MEMORY_LIMIT, MemoryLimit
from vitsearch_agent.measure.warm_parents import ParentKey, WarmParent, WarmParents

logger = logging.getLogger(__name__)

Report = TypeVar("Report")

RECORD_MAX_BYTES = 2 * ANSWER_MAX_BYTES
"""An answer, and what was seen meanwhile."""


class Isolation(NamedTuple):
    """What a child must not reach: the agent's token, queue, configuration and other jobs.

    A model runs code of large libraries in the child, so a crafted one may run its own. The child gives up its rights
    before it imports the runtime (`child.isolation`), with what its kernel has. `hidden` are files and folders, by
    their real paths, that a child may neither read nor change.

    Its own folder, and the cache of its runtime, may be below them. `needed` are files that it must be able to read,
    where there is not one in its own folder.
    """

    hidden: Tuple[str, ...]
    needed: Tuple[str, ...] = ()

    def for_child(self, writable: Tuple[str, ...], network: bool) -> Dict[str, Any]:
        """Return the part of the job with which the child isolates itself. `writable`: other folders it may change."""
        return {
            "hidden": list(self.hidden),
            "needed": list(self.needed),
            "writable": list(writable),
            "network": network,
        }


class JobFolder(NamedTuple):
    """The private folder of a job, and how its children run there.

    `stop` ends a running child, `on_start` receives phase and process of each new child, `launch` names the
    interpreter or tool, `memory_limit` bounds the child's memory. With `isolation` None the child keeps the rights of
    its user. `passes_on` is what the measuring thread had at its start, and what each child gets of it. In `kept`, out
    of reach of the children, are the records that a later attempt uses again (None: there is none).
    """

    folder: str
    stop: StopSignal
    on_start: Optional[Callable[[str, ProcessId], None]] = None
    launch: Launch = THIS_PYTHON
    memory_limit: MemoryLimit = NO_MEMORY_LIMIT
    isolation: Optional[Isolation] = None
    parents: Optional[WarmParents] = None
    passes_on: Optional[Inherited] = None
    kept: Optional[str] = None

    def run(
        self, phase: str, job: Mapping[str, Any], limit_s: float, parent: Optional[ParentKey] = None
    ) -> Dict[str, Any]:
        """Run a child of a phase for at most `limit_s` seconds; raises what `run_child` raises, and AgentError where
        this thread was changed. It is forked from the `parent` of this key where the agent keeps parents."""
        changed = [] if self.passes_on is None else inherited.restore(self.passes_on)
        if changed:
            logger.warning("another process has changed the agent; changed back: %s", "; ".join(changed))
        on_start = None if self.on_start is None else functools.partial(self.on_start, phase)
        complete = dict(job, **self.launch.to_job(), **self.memory_limit.for_child())
        if self.isolation is not None:
            complete["isolation"] = self.isolation.for_child(self.launch.writable, self.launch.network)
        warm = self._warm_parent(parent)
        return run_child(complete, self.folder, limit_s, self.stop, on_start, self.launch.python, warm)

    def keep(self, name: str, record: Mapping[str, Any]) -> None:
        """Keep a record for a later attempt of the job."""
        if self.kept is not None:
            os.makedirs(self.kept, exist_ok=True)
            write_json(os.path.join(self.kept, name), record)

    def record(self, name: str) -> Dict[str, Any]:
        """Return the record that an earlier attempt kept; an empty one where it is missing or damaged."""
        if self.kept is None:
            return {}
        try:
            record = parse_json(read_plain(os.path.join(self.kept, name), RECORD_MAX_BYTES))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _warm_parent(self, key: Optional[ParentKey]) -> Optional[WarmParent]:
        """Return the parent of a key; None for a child that is started: as the first of its measurement, or in another
        Python than the agent's."""
        if self.parents is None:
            return None
        if key is None or self.launch.python != sys.executable:
            self.parents.make_room()
            return None
        return self.parents.parent(key, child_environment(self.launch.python, self.folder))


def answer_file_name(environment_id: str, name: str) -> str:
    """Return the file name of an answer.

    It contains the environment, so that an updated agent does not find the answers from before the update.
    """
    return f"answer-{environment_id[:16]}-{name}.json"


def parse_report(answer: Mapping[str, Any], read: Callable[[Any], Report]) -> Report:
    """Return the report in a child's answer; MeasurementFailed `protocol` when it is not a valid report."""
    try:
        return read(answer.get("report"))
    except InvalidRequest as error:
        raise MeasurementFailed("protocol", f"the child's answer: {error}") from error
