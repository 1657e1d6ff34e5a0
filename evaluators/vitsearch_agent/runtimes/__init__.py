"""The runtimes by name; a runtime's module is imported when it is first created."""

from typing import Callable, Dict, Iterable, Optional, Tuple

from vitsearch_agent.base import plugins
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes.base import Availability, Runtime, Session

ENTRY_POINT_GROUP = "vitsearch_agent.runtimes"

BUILTIN = {name: facts.runtime for name, facts in RUNTIMES.items()}

__all__ = ["Availability", "Runtime", "Session", "create", "table"]


def table(entry_points: Optional[Callable[[], Iterable[Tuple[str, str]]]] = None) -> Dict[str, str]:
    """Return name -> "module:Class"; AgentError when two packages claim one name."""
    return plugins.table("runtime", ENTRY_POINT_GROUP, BUILTIN, entry_points)


def create(name: str) -> Runtime:
    """Return the runtime of that name; InvalidRequest with the nearest name when unknown."""
    runtime_class = plugins.load("runtime", name, BUILTIN if name in BUILTIN else table())
    runtime: Runtime = plugins.checked(runtime_class(), Runtime)
    return runtime
