"""The space file: YAML in, one checked and frozen :class:`SearchSpace` out.

loaded = load("spaces/quickstart.yaml", ["search.trials=10"])    # SpaceError lists all problems
loaded.space.choices()                                           # every knob with its values
check(loaded, supports)                                          # values that no backbone supports
"""

from __future__ import annotations

from vitsearch.space.load import LoadedSpace, load
from vitsearch.space.model import LOCAL_DEVICE, SearchSpace
from vitsearch.space.schema import json_schema
from vitsearch.space.source import Problem, Source
from vitsearch.space.support import Supports, check

__all__ = [
    "LOCAL_DEVICE",
    "LoadedSpace",
    "Problem",
    "SearchSpace",
    "Source",
    "Supports",
    "check",
    "json_schema",
    "load",
]
