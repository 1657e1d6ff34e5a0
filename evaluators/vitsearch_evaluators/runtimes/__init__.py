"""The runtimes by name. Nothing is imported before it is asked for."""

import difflib
import importlib
from typing import Any, Callable, Dict, Iterable, Tuple

from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest
from vitsearch_evaluators.runtimes.base import Availability, Runtime, Session

ENTRY_POINT_GROUP = "vitsearch_evaluators.runtimes"

BUILTIN = {
    "onnxruntime": "vitsearch_evaluators.runtimes.ort:OrtRuntime",
    "noop": "vitsearch_evaluators.runtimes.noop:NoopRuntime",
}

__all__ = ["Availability", "Runtime", "Session", "create", "table"]


def installed_entry_points() -> Iterable[Tuple[str, str]]:
    """Yield (name, "module:Class") of other packages; none before Python 3.8."""
    try:
        metadata: Any = importlib.import_module("importlib.metadata")
    except ImportError:
        return
    points = metadata.entry_points()
    group = points.select(group=ENTRY_POINT_GROUP) if hasattr(points, "select") else points.get(ENTRY_POINT_GROUP, ())
    for point in group:
        yield point.name, point.value


def table(
    entry_points: Callable[[], Iterable[Tuple[str, str]]] = installed_entry_points,
) -> Dict[str, str]:
    """Return name -> "module:Class"; EvaluatorError when two packages claim one name."""
    known = dict(BUILTIN)
    for name, target in entry_points():
        if known.get(name, target) != target:
            raise EvaluatorError(
                "duplicate_runtime",
                f"runtime {name!r} is registered twice: {known[name]} and {target}; uninstall one of the two packages",
            )
        known[name] = target
    return known


def create(name: str) -> Runtime:
    """Return the runtime of that name; InvalidRequest with the nearest name when unknown."""
    target = BUILTIN.get(name)
    if target is None:
        known = table()
        target = known.get(name)
        if target is None:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InvalidRequest(f"runtime {name!r} is unknown; {hint}known are {', '.join(sorted(known))}")
    module, _, attribute = target.partition(":")
    runtime = getattr(importlib.import_module(module), attribute)()
    if not isinstance(runtime, Runtime):
        raise EvaluatorError("not_a_runtime", f"{target} is not a subclass of Runtime")
    return runtime
