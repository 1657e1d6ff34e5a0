"""Things of one kind by name: our own, and those of other packages through entry points."""

import difflib
import importlib
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple

from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest


def installed_entry_points(group: str) -> Iterable[Tuple[str, str]]:
    """Yield (name, "module:Class") of other packages; none before Python 3.8."""
    try:
        metadata: Any = importlib.import_module("importlib.metadata")
    except ImportError:
        return
    points = metadata.entry_points()
    selected = points.select(group=group) if hasattr(points, "select") else points.get(group, ())
    for point in selected:
        yield point.name, point.value


def table(
    kind: str,
    group: str,
    builtin: Mapping[str, str],
    entry_points: Optional[Callable[[], Iterable[Tuple[str, str]]]] = None,
) -> Dict[str, str]:
    """Return name -> "module:Class"; EvaluatorError when two packages claim one name."""
    known = dict(builtin)
    for name, target in installed_entry_points(group) if entry_points is None else entry_points():
        if known.get(name, target) != target:
            raise EvaluatorError(
                f"duplicate_{kind.replace(' ', '_')}",
                f"{kind} {name!r} is registered twice: {known[name]} and {target}; uninstall one of the two packages",
            )
        known[name] = target
    return known


def load(kind: str, name: str, known: Mapping[str, str]) -> Any:
    """Import the class of that name; InvalidRequest with the nearest name when unknown."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InvalidRequest(f"{kind} {name!r} is unknown; {hint}known are {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def checked(made: Any, base: type) -> Any:
    """Return an object of another package when it is what it must be; EvaluatorError otherwise."""
    if not isinstance(made, base):
        kind = type(made)
        raise EvaluatorError(
            f"not_a_{base.__name__.lower()}",
            f"{kind.__module__}:{kind.__qualname__} is not a subclass of {base.__name__}",
        )
    return made
