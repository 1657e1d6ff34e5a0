"""The tree of errors is the one that its docstring draws."""

from __future__ import annotations

import pickle
import re

import pytest

from vitsearch import errors
from vitsearch.errors import SpaceError, StageError, UnknownName, VitsearchError, did_you_mean

DRAWN = {name: int(code) for name, code in re.findall(r"(\w+)\s+exit (\d)", errors.__doc__ or "")}
CLASSES = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, VitsearchError)]


def test_every_class_is_drawn_with_its_exit_code():
    assert {cls.__name__: cls.exit_code for cls in CLASSES} == DRAWN


def test_every_class_hangs_on_the_root():
    assert all(cls.__bases__ == (VitsearchError,) for cls in CLASSES if cls is not VitsearchError)


def test_a_stage_error_crosses_a_process_border():
    error = pickle.loads(pickle.dumps(StageError("train", "not_finite", "loss is nan")))
    assert (error.stage, error.kind, error.message) == ("train", "not_finite", "loss is nan")
    assert str(error) == "train failed (not_finite): loss is nan"


@pytest.mark.parametrize(
    "error",
    [cls("what happened") for cls in CLASSES if cls not in (SpaceError, StageError, UnknownName)],
    ids=lambda error: type(error).__name__,
)
def test_plain_errors_cross_a_process_border(error):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (type(error), "what happened")


@pytest.mark.parametrize(
    "error", [SpaceError("x.yaml", ["a", "b"]), UnknownName("runtime", "onx", ["onnxruntime"])], ids=["space", "name"]
)
def test_errors_with_parts_cross_a_process_border(error):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (type(error), str(error))


def test_a_space_error_tells_all_problems():
    error = SpaceError("x.yaml", ["3: one", "7: two"])
    assert str(error) == "x.yaml: 2 problems\n  3: one\n  7: two"
    assert error.problems == ("3: one", "7: two")
    assert str(SpaceError("x.yaml", ["3: one"])).startswith("x.yaml: 1 problem\n")


def test_an_unknown_name_tells_the_nearest_and_all():
    error = UnknownName("runtime", "onnxruntim", ["tensorrt", "onnxruntime"])
    assert str(error) == (
        "no runtime is called 'onnxruntim'; did you mean 'onnxruntime'?; known: onnxruntime, tensorrt"
    )


def test_nothing_near_nothing_meant():
    assert did_you_mean("zebra", ["onnxruntime"]) == ""
