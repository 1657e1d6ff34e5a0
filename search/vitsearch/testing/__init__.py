"""Public helpers for tests: fakes of the workers and the device, and what every backbone family must satisfy.

`FakeRunner` and `FakeDevice` stand at the two boundaries of a run; `BackboneTestCase` is the conformance
test of a family, to inherit from. Each is imported when it is first used: the last one brings torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitsearch.testing.fakes import FakeDevice, FakeRunner
    from vitsearch.testing.families import BackboneTestCase

__all__ = ["BackboneTestCase", "FakeDevice", "FakeRunner"]
_HOMES = {
    "BackboneTestCase": "vitsearch.testing.families",
    "FakeDevice": "vitsearch.testing.fakes",
    "FakeRunner": "vitsearch.testing.fakes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitsearch.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
