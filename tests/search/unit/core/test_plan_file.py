"""Plans that a person wrote: every problem is reported in one line, never as a traceback."""

from __future__ import annotations

import json

import pytest

from vitsearch.core import plan_file
from vitsearch.core.plan import Plan
from vitsearch.errors import PlanError


@pytest.fixture
def written(tmp_path, golden):
    """Write the committed plan with ``change`` applied to it."""

    def write(change=lambda value: None):
        value = golden("plan")
        change(value)
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(value))
        return path

    return write


def problems(path) -> list[str]:
    with pytest.raises(PlanError) as caught:
        plan_file.read_plan(path)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path}: not a valid plan"
    return [line.strip() for line in lines]


def test_a_valid_plan_is_read(written, golden):
    assert plan_file.read_plan(written()) == Plan.from_json(golden("plan"))


def test_keys_with_defaults_may_be_left_out(written):
    path = written(lambda value: value["compression"].clear())
    assert plan_file.read_plan(path).compression.is_identity


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda v: v.update(resolutoin=28), "unknown key resolutoin; did you mean 'resolution'?"),
        (lambda v: v.pop("backbone"), "backbone is missing"),
        (lambda v: v["recipe"].pop("lr"), "recipe.lr is missing"),
        (lambda v: v["compression"].update(head_ratio=0.5), "unknown key compression.head_ratio"),
        (lambda v: v.update(recipe=3), "recipe. must be a mapping, not 3"),
        (lambda v: v.update(deployments={}), "deployments must be a list, not {}"),
        (lambda v: v["deployments"][0].pop("runtime"), "deployments[0].runtime is missing"),
        (lambda v: v["deployments"][0].update(options=[1]), "deployments[0].options must be a mapping, not [1]"),
    ],
)
def test_missing_and_unknown_keys_are_reported(written, change, line):
    (seen,) = problems(written(change))
    assert seen.startswith(line)


@pytest.mark.parametrize(
    ("change", "where", "value"),
    [
        (lambda v: v.update(resolution="wide"), "resolution: ", "not 'wide'"),
        (lambda v: v.update(distillation="osmosis"), "distillation: ", "not 'osmosis'"),
        (lambda v: v["compression"].update(scope="local"), "compression.scope: ", "not 'local'"),
        (lambda v: v["recipe"].update(rungs=[0, "x"]), "recipe.rungs.1: ", "not 'x'"),
    ],
)
def test_values_of_the_wrong_kind_are_reported(written, change, where, value):
    (seen,) = problems(written(change))
    assert seen.startswith(where)
    assert seen.endswith(value)


@pytest.mark.parametrize(
    ("content", "why"), [(None, "does not exist"), ("{", "cannot be read as JSON"), ("[]", "mapping")]
)
def test_files_without_a_plan_are_refused(tmp_path, content, why):
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PlanError, match=why):
        plan_file.read_plan(path)
