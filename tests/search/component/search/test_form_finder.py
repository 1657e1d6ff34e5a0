"""The form of files that the space leaves open, found on the leaderboard between two fakes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.figures import Figure
from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY
from vitsearch.errors import StageError
from vitsearch.pipeline.progress import Silent
from vitsearch.search.form_finder import FormFinder, fastest, why_fastest
from vitsearch.stages import ExportJob, ScreenJob
from vitsearch.testing.fakes import FakeDevice, FakeRunner, fake_judged


@dataclass
class Notes(Silent):
    said: list[str] = field(default_factory=list)

    def note(self, text):
        self.said.append(text)


@dataclass
class Device(FakeDevice):
    """`speed` divides the time of files that quantize convolutions; an open batch takes twice as long."""

    speed: float = 1.0

    async def measure(self, artifact, deployment, protocol, repeat):
        measurement = await super().measure(artifact, deployment, protocol, repeat)
        factor = 2.0 if deployment.batch is None else 1.0
        factor /= self.speed if deployment.quantized_ops == "all" else 1.0
        times = measurement.cpu_ms._replace(
            **{name: getattr(measurement.cpu_ms, name) * factor for name in measurement.cpu_ms._fields if name != "n"}
        )
        return measurement._replace(cpu_ms=times)


@dataclass
class Runner(FakeRunner):
    """`lost` is what quantized convolutions cost of the accuracy; files without them have the weights `floats`."""

    lost: float = 0.0
    floats: dict[str, int] = field(default_factory=dict)

    def _answer(self, job):
        answer = super()._answer(job)
        if self.floats and isinstance(job, ScreenJob) and job.deployment.quantized_ops == "linear":
            size = answer.size_bytes + sum(self.floats.values())
            return replace(answer, size_bytes=size, float_weights=self.floats)
        covers = isinstance(job, ExportJob) and job.deployment.quantized_ops == "all"
        return replace(answer, judged=fake_judged(answer.judged.values["accuracy"] - self.lost)) if covers else answer


@pytest.fixture
def int8(fake_study):
    """Run the leaderboard of int8 and fp32 models: the study."""

    def run(speed=1.0, lost=0.0, before=lambda job: None, floats=None, **space):
        overrides = {"search__trials": 0, "space__quantization": ["fp32", "int8_ptq"]} | space
        study = replace(
            fake_study.with_space(**overrides),
            device=Device(speed=speed),
            runner=Runner(lost=lost, before=before, floats=floats or {}),
            progress=Notes(),
        )
        study.run()
        return study

    return run


def kept(study):
    """The quantized layers of the row of int8."""
    with study.opened() as (opened, _):
        plans = [Plan.from_json(row["plan"]) for row in opened.attributes["leaderboard"]]
    (ops,) = [plan.deployment.quantized_ops for plan in plans if plan.deployment.precision == "int8_ptq"]
    return ops


@pytest.mark.parametrize(
    ("speed", "lost", "ops"),
    [
        (1.5, 0.0, "all"),
        (1.5, 0.9 * POLICY.equality.accuracy_of_files, "all"),
        (1.5, 2 * POLICY.equality.accuracy_of_files, "linear"),
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
    assert sorted((deployment.precision, deployment.quantized_ops) for deployment in deployments) == [
        ("fp32", None),
        ("int8_ptq", "all"),
    ]


@pytest.mark.parametrize(
    ("speed", "lost", "said"),
    [
        (
            1.5,
            0.0,
            "all is kept ({linear}, {faster}): all is faster beyond the intervals; accuracy 0.8900, linear 0.8900",
        ),
        (
            1.5,
            0.02,
            "linear is kept ({linear}, {faster}): all is faster beyond the intervals, but has accuracy 0.8700, linear "
            "0.8900: more than 0.01 is lost",
        ),
        (1.0, 0.0, "linear is the usual form, and all is not faster beyond the intervals"),
        (0.5, 0.0, "linear is faster beyond the intervals"),
    ],
    ids=["faster", "faster but too inexact", "equally fast", "slower"],
)
def test_why_a_form_is_kept_is_said(int8, speed, lost, said):
    """A slower one was kept without a word on why."""
    (line,) = [line for line in int8(speed, lost).progress.said if "quantized_ops" in line]
    shown = said.format(linear="cpu_ms_p50: linear 1.512 (1.512 to 1.512)", faster="all 1.008 (1.008 to 1.008)")
    assert line.startswith("fake_vit@28 int8_ptq onnxruntime cpu: quantized_ops ")
    assert line.endswith(shown)


CONVOLUTIONS = {"stem": 1200, "neck": 300, "last": 200, "first": 100}


@pytest.mark.parametrize(
    ("of_size", "speed", "ops"),
    [
        ({}, 0.5, "linear"),
        ({"objectives__size_mb": "minimize"}, 0.5, "all"),
        ({"limits__size_mb": {"max": 0.01}}, 0.5, "all"),
        ({"objectives__size_mb": "minimize"}, 0.3, "linear"),
    ],
    ids=["size is no matter", "an objective", "a limit", "smaller, but slower by more"],
)
def test_size_is_weighed_where_it_is_an_objective_or_a_limit(int8, of_size, speed, ops):
    """A file that was 2.7 times as large was kept because it was the usual form."""
    study = int8(speed, floats=CONVOLUTIONS, **of_size)
    assert kept(study) == ops
    (line,) = [line for line in study.progress.said if "quantized_ops" in line]
    assert "; size_mb: linear 0.0028, all 0.001)" in line
    assert ("better in cpu_ms_p50 times size_mb beyond the intervals" in line) == bool(of_size)
    left = (
        "4 layers stay in fp32, 0.00135 MB more than in int8: stem (0.0012 MB), neck (0.0003 MB), last (0.0002 MB) and"
    )
    assert (left in line) == (ops == "linear")


@pytest.mark.parametrize(("speed", "evaluated"), [(1.0, 2), (1.5, 3)], ids=["no gain", "a gain"])
def test_accuracy_is_evaluated_only_where_convolutions_gain(int8, speed, evaluated):
    assert int8(speed).runner.runs["export"] == evaluated


def test_a_second_run_tries_nothing_again(int8):
    study = int8(1.5)
    before = study.runner.runs.copy(), study.device.measured.copy()
    study.run()
    assert (study.runner.runs, study.device.measured) == before


def test_named_layers_are_not_tried(int8):
    study = int8(1.5, space__quantized_ops="linear")
    assert (kept(study), study.runner.runs["screen"]) == ("linear", 0)


def test_the_batch_is_found_in_the_form_that_is_kept(int8):
    study = int8(1.5, space__batch="auto")
    with study.opened() as (opened, _):
        assert opened.attributes["file_forms"] == {
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
    (line,) = [line for line in study.progress.said if "quantized_ops" in line]
    assert line.endswith("): no other of the 2 forms could be measured")


def test_a_form_whose_accuracy_is_not_known_is_not_kept_and_has_no_accuracy(int8):
    def fail(job):
        if isinstance(job, ExportJob) and job.deployment.quantized_ops == "all":
            raise StageError("export", "crash", "no such operator")

    study = int8(1.5, before=fail)
    assert kept(study) == "linear"
    (line,) = [line for line in study.progress.said if "quantized_ops" in line]
    assert line.endswith(": all is faster beyond the intervals, but its accuracy is not known: its files fail")


def test_a_form_that_was_not_measured_is_not_kept():
    assert fastest({"a": Figure(None, reason="no counter"), "b": Figure(1.0, 0.9, 1.1)}) == "b"


def test_a_slower_form_that_is_kept_within_the_intervals_is_said_to_be_the_usual_one():
    costs = {"linear": Figure(0.8127, 0.78, 0.84), "all": Figure(0.7677, 0.74, 0.80)}
    assert fastest(costs) == "linear"
    assert why_fastest(costs, "linear", 2) == "linear is the usual form, and all is not faster beyond the intervals"


times = st.floats(0.1, 10.0)
figures = st.builds(lambda middle, half: Figure(middle, middle / half, middle * half), times, st.floats(1.0, 1.3))


@given(figures, figures)
def test_the_reason_is_true_of_the_figures_beside_it(first, second):
    costs = {"linear": first, "all": second}
    form = fastest(costs)
    other = "all" if form == "linear" else "linear"
    says_faster = why_fastest(costs, form, 2) == f"{form} is faster beyond the intervals"
    assert says_faster == (costs[form].high < costs[other].low)
    assert says_faster or form == "linear"


@pytest.mark.parametrize(
    ("second", "kept"),
    [((0.8, 0.75, 0.85), "b"), ((0.95, 0.9, 0.99), "a"), ((0.8, None, None), "b"), ((None, None, None), "a")],
    ids=["faster beyond the intervals", "a tie", "no interval", "not measured"],
)
def test_the_first_form_is_kept_unless_another_is_faster_beyond_its_interval(second, kept):
    assert fastest({"a": Figure(1.0, 0.97, 1.03), "b": Figure(*second)}) == kept


def test_forms_are_compared_by_the_figures_of_one_moment(int8, monkeypatch):
    """Each measurement may change the times of the references, and with them the milliseconds of those before."""
    seen, screened = Counter(), FormFinder._screened

    async def later_is_slower(finder, plan):
        metrics, ops = await screened(finder, plan), plan.deployment.quantized_ops
        seen[ops] += 1
        return replace(metrics, value=9.0, low=8.9, high=9.1) if ops == "linear" and seen[ops] == 1 else metrics

    monkeypatch.setattr(FormFinder, "_screened", later_is_slower)
    assert kept(int8(0.8)) == "linear", "9 ms were those of another moment"
