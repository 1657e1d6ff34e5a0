"""Compress vision models for edge devices by measured, multi-objective search.

The public interface: `load_space`, `run`, `open_study`, the values `SearchSpace`, `Plan`, `Metrics`,
`Wanted`, `Target` and `Observing`, the modules `errors` and `testing`. Each is imported when it is first
used. The functions of `vitsearch.tune`, which needs Ray, are public too. Everything else is internal and may change
in any release.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitsearch import errors
    from vitsearch.api import load_space, open_study, run
    from vitsearch.core.figures import Metrics
    from vitsearch.core.plan import Plan
    from vitsearch.search.observers.observe import Observing
    from vitsearch.ship.choice import Wanted
    from vitsearch.space import SearchSpace
    from vitsearch.study.retargeted import Target

__version__ = "0.1.0"
__all__ = [
    "Metrics",
    "Observing",
    "Plan",
    "SearchSpace",
    "Target",
    "Wanted",
    "__version__",
    "errors",
    "load_space",
    "open_study",
    "run",
    "testing",
]
_HOMES = {
    "Metrics": "vitsearch.core.figures",
    "Observing": "vitsearch.search.observers.observe",
    "Plan": "vitsearch.core.plan",
    "SearchSpace": "vitsearch.space",
    "Target": "vitsearch.study.retargeted",
    "Wanted": "vitsearch.ship.choice",
    "load_space": "vitsearch.api",
    "open_study": "vitsearch.api",
    "run": "vitsearch.api",
}
_MODULES = ("errors", "testing")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"vitsearch.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'vitsearch' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
