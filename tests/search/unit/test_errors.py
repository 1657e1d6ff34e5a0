"""The error classes agree with the docstring that lists them."""

from __future__ import annotations

import pickle
import re

import pytest

from vitsearch import errors
from vitsearch.errors import (
    NotReady,
    SpaceError,
    StageError,
    StoreError,
    UnknownName,
    VitsearchError,
    WorkerCrashed,
    did_you_mean,
)

DRAWN = {name: int(code) for name, code in re.findall(r"(\w+)\s+exit (\d)", errors.__doc__ or "")}
CLASSES = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, VitsearchError)]


def test_the_docstring_lists_every_class_with_its_exit_code():
    assert {cls.__name__: cls.exit_code for cls in CLASSES} == DRAWN


def test_every_class_derives_from_the_base_class():
    bases = {cls: cls.__bases__ for cls in CLASSES if cls is not VitsearchError}
    assert bases.pop(WorkerCrashed) == (StageError,)
    assert set(bases.values()) == {(VitsearchError,)}


@pytest.mark.parametrize("kind", [StageError, WorkerCrashed])
def test_pickle_round_trip_of_a_stage_error(kind):
    error = pickle.loads(pickle.dumps(kind("train", "not_finite", "loss is nan")))
    assert (type(error), error.stage, error.kind, error.message) == (kind, "train", "not_finite", "loss is nan")
    assert str(error) == "training failed (not_finite): loss is nan"


def test_a_stage_error_names_the_stage_in_the_words_of_users():
    message = str(StageError("block_structure", "not_finite", "the scores have NaN"))
    assert message == "scoring heads and channels failed (not_finite): the scores have NaN"


def test_a_stage_error_of_a_plugin_keeps_the_name_that_it_gives():
    assert str(StageError("distil", "crash", "no memory")) == "distil failed (crash): no memory"


@pytest.mark.parametrize(
    "error",
    [
        cls("what happened")
        for cls in CLASSES
        if cls not in (NotReady, SpaceError, StageError, UnknownName, WorkerCrashed)
    ],
    ids=lambda error: type(error).__name__,
)
def test_pickle_round_trip_of_plain_errors(error):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (type(error), "what happened")


@pytest.mark.parametrize(
    "error",
    [
        SpaceError("x.yaml", ["a", "b"]),
        UnknownName("runtime", "onx", ["onnxruntime"]),
        NotReady("study", [StoreError("away"), UnknownName("runtime", "onx", ["onnxruntime"])]),
    ],
    ids=["space", "name", "not ready"],
)
def test_pickle_round_trip_of_errors_with_parts(error):
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (type(error), str(error))


def test_a_space_error_lists_all_problems():
    error = SpaceError("x.yaml", ["3: one", "7: two"])
    assert str(error) == "x.yaml: 2 problems\n  3: one\n  7: two"
    assert error.problems == ("3: one", "7: two")
    assert str(SpaceError("x.yaml", ["3: one"])).startswith("x.yaml: 1 problem\n")


def test_an_unknown_name_is_reported_with_the_nearest_and_all_names():
    error = UnknownName("runtime", "onnxruntim", ["tensorrt", "onnxruntime"])
    assert str(error) == ("no runtime is called 'onnxruntim'; did you mean 'onnxruntime'? Known: onnxruntime, tensorrt")


def test_swapped_letters_come_before_other_letters():
    assert did_you_mean("sm8560", ["sm8850", "sm8450", "sm8650"]) == "; did you mean 'sm8650'?"


def test_did_you_mean_is_empty_without_a_similar_name():
    assert did_you_mean("zebra", ["onnxruntime"]) == ""


def test_several_problems_end_a_command_as_the_one_that_will_not_pass():
    assert NotReady("study", [StoreError("away")]).exit_code == 1
    assert NotReady("study", [StoreError("away"), errors.StudyError("another objective")]).exit_code == 2
