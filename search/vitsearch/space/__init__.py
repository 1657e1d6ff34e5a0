"""The space file: YAML in, one checked and frozen `SearchSpace` out.

loaded = load("spaces/quickstart.yaml", ["search.trials=10"])    # SpaceError lists all problems
loaded.space.choices()                                           # every knob with its values
check(loaded, supports)                                          # values that no backbone supports
judge("spaces/quickstart.yaml", [], supports, matching)          # both, also while the form is wrong; globs expanded
"""

from __future__ import annotations

from vitsearch.space.checks.support import Supports
from vitsearch.space.globs import Matching
from vitsearch.space.load import JudgedSpace, LoadedSpace, check, judge, load, read_draft
from vitsearch.space.model import LOCAL_DEVICE, SearchSpace
from vitsearch.space.problems import Problem, SourceMap
from vitsearch.space.schema import json_schema

__all__ = [
    "LOCAL_DEVICE",
    "JudgedSpace",
    "LoadedSpace",
    "Matching",
    "Problem",
    "SearchSpace",
    "SourceMap",
    "Supports",
    "check",
    "json_schema",
    "judge",
    "load",
    "read_draft",
]
