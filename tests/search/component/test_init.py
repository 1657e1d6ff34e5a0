"""The public interface of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import vitsearch as vs
from support import PYTHON_PATH

HEAVY = ("numpy", "optuna", "pydantic", "ray", "rich", "sqlalchemy", "timm", "torch", "typer")


def test_the_public_names_are_these():
    assert vs.__all__ == [
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
    assert [name for name in vs.__all__ if getattr(vs, name, None) is None] == []


def test_the_helpers_for_tests_are_these():
    assert vs.testing.__all__ == ["BackboneTestCase", "FakeDevice", "FakeRunner"]
    assert [name for name in vs.testing.__all__ if getattr(vs.testing, name, None) is None] == []


@pytest.mark.parametrize("module", [vs, vs.testing], ids=lambda module: module.__name__)
def test_an_unknown_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match="has no attribute 'Lab'"):
        module.Lab  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, json, vitsearch; print(json.dumps(sorted(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert set(HEAVY) & set(json.loads(done.stdout)) == set()
