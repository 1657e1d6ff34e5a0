"""The form of files that the space leaves open, found on the leaderboard between two fakes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from vitsearch.core.figures import Figure
from vitsearch.core.plan import Plan
from vitsearch.errors import StageError
from vitsearch.pipeline.jobs import ExportJob, ScreenJob
from vitsearch.pipeline.progress import Silent
from vitsearch.search.leaderboard.form_finder import MOST_LOST, fastest
from vitsearch.testing.fakes import FakeDevice, FakeRunner, fake_confusion


@dataclass
class Notes(Silent):
    said: list[str] = field(default_factory=list)

    def note(self, text):
        self.said.append(text)


@dataclass
class Device(FakeDevice):
    """``speed`` divides the time of files that quantize convolutions; an open batch takes twice as long."""

    speed: float = 1.0

    async def measure(self, artifact, deployment, protocol, repeat):
        found = await super().measure(artifact, deployment, protocol, repeat)
        factor = 2.0 if deployment.batch is None else 1.0
        factor /= self.speed if deployment.quantized_ops == "all" else 1.0
        times = found.cpu_ms._replace(
            **{name: getattr(found.cpu_ms, name) * factor for name in found.cpu_ms._fields if name != "n"}
        )
        return found._replace(cpu_ms=times)


@dataclass
class Runner(FakeRunner):
    """``lost`` is what quantized convolutions cost of the accuracy."""

    lost: float = 0.0

    def _answer(self, job):
        answer = super()._answer(job)
        covers = isinstance(job, ExportJob) and job.deployment.quantized_ops == "all"
        return replace(answer, confusion=fake_confusion(answer.confusion.accuracy - self.lost)) if covers else answer


@pytest.fixture
def int8(fake_study):
    """Run the leaderboard of int8 and fp32 models: the study."""

    def run(speed=1.0, lost=0.0, before=lambda job: None, **space):
        asked = {"search__trials": 0, "space__quantization": ["fp32", "int8_ptq"]} | space
        study = replace(
            fake_study.with_space(**asked),
            device=Device(speed=speed),
            runner=Runner(lost=lost, before=before),
            progress=Notes(),
        )
        study.run()
        return study

    return run


def kept(study):
    """The quantized layers of the row of int8."""
    with study.opened() as (opened, _):
        plans = [Plan.from_json(row["plan"]) for row in opened.attributes["leaderboard"]]
    (found,) = [plan.deployment.quantized_ops for plan in plans if plan.deployment.precision == "int8_ptq"]
    return found


@pytest.mark.parametrize(
    ("speed", "lost", "ops"),
    [
        (1.5, 0.0, "all"),
        (1.5, 0.9 * MOST_LOST, "all"),
        (1.5, 2 * MOST_LOST, "linear"),
        (1.0, 0.0, "linear"),
        (0.5, 0.0, "linear"),
    ],
    ids=["faster", "a little accuracy lost", "too much accuracy lost", "equally fast", "slower"],
)
def test_the_faster_form_that_loses_little_accuracy_is_kept(int8, speed, lost, ops):
    assert kept(int8(speed, lost)) == ops


def test_each_model_has_one_row_and_the_other_form_is_no_plan(int8):
    study = int8(1.5)
    deployments = [record.plan.deployment for record in study.records().values()]
    assert sorted((one.precision, one.quantized_ops) for one in deployments) == [("fp32", None), ("int8_ptq", "all")]


def test_what_was_found_is_said(int8):
    study = int8(1.5)
    assert (
        "fake_vit@28 int8_ptq onnxruntime cpu: quantized_ops all is kept (cpu_ms_p50: linear 1.512, all 1.008)"
        in study.progress.said
    )


def test_too_much_accuracy_lost_is_said(int8):
    study = int8(1.5, 0.02)
    assert (
        "fake_vit@28 int8_ptq onnxruntime cpu: accuracy 0.8700, 0.8900 with linear layers alone" in study.progress.said
    )


@pytest.mark.parametrize(("speed", "evaluated"), [(1.0, 2), (1.5, 3)], ids=["no gain", "a gain"])
def test_accuracy_is_evaluated_only_where_convolutions_gain(int8, speed, evaluated):
    assert int8(speed).runner.made["export"] == evaluated


def test_a_second_run_tries_nothing_again(int8):
    study = int8(1.5)
    before = study.runner.made.copy(), study.device.measured.copy()
    study.run()
    assert (study.runner.made, study.device.measured) == before


def test_named_layers_are_not_tried(int8):
    study = int8(1.5, space__quantized_ops="linear")
    assert (kept(study), study.runner.made["screen"]) == ("linear", 0)


def test_the_batch_is_found_in_the_form_that_is_kept(int8):
    study = int8(1.5, space__batch="auto")
    with study.opened() as (opened, _):
        assert opened.attributes["found_forms"] == {
            "fake_vit/onnxruntime/cpu/fp32": {"batch": "1"},
            "fake_vit/onnxruntime/cpu/int8_ptq": {"quantized_ops": "all", "batch": "1"},
        }


@pytest.mark.parametrize(("failing", "ops"), [("linear", "all"), ("all", "linear")])
def test_a_form_that_fails_is_not_kept(int8, failing, ops):
    def fail(job):
        if isinstance(job, ScreenJob | ExportJob) and job.deployment.quantized_ops == failing:
            raise StageError("export", "crash", "no such operator")

    study = int8(1.5, before=fail)
    assert kept(study) == ops
    assert any("no such operator" in said for said in study.progress.said)


@pytest.mark.parametrize(
    ("second", "found"),
    [((0.8, 0.75, 0.85), "b"), ((0.95, 0.9, 0.99), "a"), ((0.8, None, None), "b"), ((None, None, None), "a")],
    ids=["faster beyond the intervals", "a tie", "no interval", "not measured"],
)
def test_the_first_form_is_kept_unless_another_is_faster_beyond_its_interval(second, found):
    assert fastest({"a": Figure(1.0, 0.97, 1.03), "b": Figure(*second)}) == found
