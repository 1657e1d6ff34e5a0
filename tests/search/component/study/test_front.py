"""The front of a study, from its records and its newest measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from support.evaluations import evaluation
from vitsearch.cli.arguments import Form, Query
from vitsearch.cli.results.front import print_front, show
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.json_value import json_of, json_text
from vitsearch.core.pareto import dominates, loss
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record
from vitsearch.core.stage import Stage
from vitsearch.space.sections import LimitSection
from vitsearch.storage import shipped
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import ArtifactRow, Ledger, MeasurementRow, ReferenceKey, StoredTimes
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.front import OwnTimes, Point, read_front
from vitsearch.study.identity import adopt_data, adopt_judge
from vitsearch.study.printed.models import PrintedFront
from vitsearch.study.results.backbone_standing import standings
from vitsearch.study.results.selection import Selection
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study
from vitsearch.tasks.classification.confusion import Confusion
from vitsearch.tasks.classification.task import judged_counts
from vitsearch.testing.fakes import DATA, fake_measurement, fake_times
from vitsearch_agent.wire.paired import Paired, Ratio, ReferenceTimes
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN

ME = DriverId.current()


@pytest.fixture
def front_of(space):
    """A study with these records; returns its front. Call it again for more."""
    ledger, opened = Ledger.open(space.storage), []

    def tell(*records, changed=space, baseline=None, data=None):
        study = Study.open(changed)
        opened.append(study)
        plans = PlanSpace(changed, "local", lambda backbone, knob, value: None, lambda backbone: ImageSize.square(28))
        if baseline:
            plan, keys = plans.baseline().to_json(), keys_of("base").__dict__
            metrics = Metrics.of(baseline, {"accuracy": [0.8, 0.9]}).to_json()
            study.remember("baseline", {"plan": plan, "keys": keys, "metrics": metrics})
        if data:
            adopt_data(study, data)
            adopt_judge(study, data["fingerprint"])
        for record in records:
            trial = study.ask(plans, ME)
            study.tell(trial, replace(record, plan=trial.plan))
        return read_front(study, ledger)

    tell.ledger = ledger
    yield tell
    for study in opened:
        study.close()
    ledger.close()


def keys_of(name):
    return Keys(f"w-{name}", f"g-{name}", f"a-{name}", "device")


def confirmed(name, accuracy, ms, **more):
    metrics = Metrics.of({"accuracy": accuracy, "cpu_ms_p50": ms})
    return Record("confirmed", None, keys=keys_of(name), metrics=metrics, **more)


def measured(ledger, name, ms, protocol=CONFIRM, repeat=0, device="device", half=0.01, **more):
    measurement = fake_measurement(ms, protocol, device_id=device, cpu_ms=fake_times(ms, half), **more)
    row = MeasurementRow(
        f"g-{name}", "s", device, measurement.environment_id, protocol.id, repeat, measurement.to_json()
    )
    ledger.add(row, StageCost(0, {}))


def names(front):
    return [point.name for point in front.points]


def printed(front):
    return PrintedFront.of(front, front.points)


def test_an_empty_study_has_an_empty_front(front_of):
    front = front_of()
    assert (front.points, front.knee, front.baseline) == ((), None, None)
    assert json_of(printed(front)) == {
        "study": "fake",
        "device": "local",
        "shown_device": "local",
        "emulated": False,
        "labelled_by": None,
        "quality_warnings": [],
        "baseline": None,
        "points": [],
    }


def test_dominated_models_are_not_shown(front_of):
    front = front_of(confirmed("a", 0.9, 2.0), confirmed("b", 0.89, 2.5), confirmed("c", 0.87, 1.0))
    assert names(front) == ["trial 2", "trial 0"]


def test_only_trained_models_are_shown(front_of):
    front = front_of(
        Record("infeasible", None, keys=keys_of("a"), metrics=Metrics.of({"accuracy": 0.99, "cpu_ms_p50": 0.1})),
        confirmed("b", 0.9, 1.0),
        confirmed("b", 0.9, 1.0, duplicate_of=1),
    )
    assert names(front) == ["trial 1"]


def test_the_limits_of_today_decide(front_of, space):
    front = front_of(confirmed("a", 0.9, 2.0), confirmed("b", 0.8, 1.0), baseline={"accuracy": 0.9, "cpu_ms_p50": 3.0})
    assert names(front) == ["trial 0"]  # the other loses more than 0.03
    relaxed = space.from_json(space.to_json() | {"limits": {"accuracy": {"max_drop": 0.2}}})
    assert names(front_of(changed=relaxed)) == ["trial 1", "trial 0"]


def test_the_baseline_is_judged_by_the_limits_too(front_of, space):
    changed = space.from_json(space.to_json() | {"limits": {"cpu_ms_p50": {"max": 2.0}}})
    baseline = front_of(changed=changed, baseline={"accuracy": 0.9, "cpu_ms_p50": 3.0}).baseline
    assert (baseline.feasible, baseline.breaks) == (False, ("cpu_ms_p50<=2",))


def test_without_a_baseline_relative_limits_bind_nothing(front_of):
    assert names(front_of(confirmed("b", 0.1, 1.0))) == ["trial 0"]


def test_an_objective_that_was_not_measured_is_not_on_the_front(front_of):
    assert names(front_of(confirmed("a", 0.9, None), confirmed("b", 0.8, 1.0))) == ["trial 1"]


def test_all_measurements_of_a_graph_are_pooled_and_decide(front_of):
    front_of(confirmed("a", 0.9, 2.0), confirmed("b", 0.88, 1.0))
    measured(front_of.ledger, "a", 0.70, protocol=SCREEN)
    measured(front_of.ledger, "a", 0.71)
    measured(front_of.ledger, "a", 0.72, repeat=1)
    front = front_of()
    assert names(front) == ["trial 0"]
    assert front.points[0].metrics.value("cpu_ms_p50") == pytest.approx(0.71, rel=1e-3)
    assert front.points[0].metrics.value("accuracy") == 0.9


def test_other_devices_change_nothing(front_of):
    front_of(confirmed("a", 0.9, 2.0))
    measured(front_of.ledger, "a", 0.5, device="another")
    assert front_of().points[0].metrics.value("cpu_ms_p50") == 2.0


def test_only_the_environment_of_the_last_measurement_counts(front_of):
    front_of(confirmed("a", 0.9, 2.0))
    measured(front_of.ledger, "a", 0.5, environment_id="1" * 64)
    measured(front_of.ledger, "a", 0.75, environment_id="2" * 64, repeat=1)
    assert front_of().points[0].metrics.value("cpu_ms_p50") == 0.75


def test_old_results_move_with_the_reference_times(front_of):
    front_of(confirmed("a", 0.9, 2.0))
    times = ReferenceTimes(2.0, 0.1, 2.0, 0.1, 5, True)
    paired = Paired("0" * 64, Ratio(4.0, 0.5, 0.0, 0.02, 20.0), None, times)
    measured(front_of.ledger, "a", 9.0, basis="paired", paired=paired)
    before = front_of().points[0].metrics.value("cpu_ms_p50")
    key = ReferenceKey("device", "0" * 64, "0" * 64, "onnxruntime", 1)
    faster = times._replace(products_cpu_ms=1.62, convolutions_cpu_ms=0.1)
    front_of.ledger.set_reference_times(key, StoredTimes(faster.to_json(), "2026-01-01T00:00:00Z"))
    assert front_of().points[0].metrics.value("cpu_ms_p50") == pytest.approx(0.9 * before)


def test_a_point_that_is_dominated_only_within_its_interval_is_near_the_front(front_of):
    front_of(confirmed("a", 0.9, 1.0), confirmed("b", 0.89, 1.05), confirmed("c", 0.89, 2.0))
    for name, ms in (("a", 1.0), ("b", 1.05), ("c", 2.0)):
        measured(front_of.ledger, name, ms, half=0.1)
    front = front_of()
    assert names(front) == ["trial 0"]
    assert [point.name for point in front.near] == ["trial 1"]


def test_a_point_has_the_shares_of_its_file(front_of):
    shares = {"int8": 0.957, "fp32": 0.043}
    front_of(confirmed("a", 0.9, 2.0))
    assert front_of().points[0].shares == {}
    front_of.ledger.add(ArtifactRow("a-a", "model", "5" * 64, 1, "here", {"shares": shares}), StageCost(0, {}))
    (point,) = front_of().points
    assert point.shares == shares
    assert point.shares == shares


def test_the_baseline_is_shown_as_it_was_measured(front_of):
    front_of(baseline={"accuracy": 0.9, "cpu_ms_p50": 3.0})
    measured(front_of.ledger, "base", 2.5)
    baseline = front_of().baseline
    assert (baseline.name, baseline.metrics.value("cpu_ms_p50"), baseline.metrics.value("accuracy")) == (
        "baseline",
        2.5,
        0.9,
    )
    assert [point.name for point in front_of().shown()] == ["baseline"]


def test_points_are_sorted_by_cost_wherever_accuracy_stands(front_of, space):
    costs_first = {"cpu_ms_p50": "minimize", "accuracy": "maximize"}
    changed = space.from_json(space.to_json() | {"objectives": costs_first})
    front = front_of(confirmed("a", 0.9, 2.0), confirmed("c", 0.87, 1.0), confirmed("d", 0.88, 1.5), changed=changed)
    assert front.objectives == ("cpu_ms_p50", "accuracy")
    assert [point.metrics.value("cpu_ms_p50") for point in front.points] == [1.0, 1.5, 2.0]


def test_a_point_has_the_flags_that_all_its_measurements_have(front_of):
    front_of(confirmed("a", 0.9, 1.0))
    measured(front_of.ledger, "a", 1.1, flags=("contended", "not_steady"))
    assert front_of().points[0].flags == ("contended", "not_steady")
    measured(front_of.ledger, "a", 1.2, repeat=2, flags=("contended",))
    assert front_of().points[0].flags == ("contended",)


def test_the_knee_is_the_balanced_point(front_of):
    front = front_of(confirmed("a", 0.9, 4.0), confirmed("b", 0.89, 1.2), confirmed("c", 0.7, 1.0))
    assert front.points[front.knee].name == "trial 1"


def test_the_json_form_has_values_intervals_and_reasons(finished):
    with finished.opened() as (study, ledger):
        value = json.loads(json_text(printed(read_front(study, ledger))))
    assert value.keys() == {
        "study",
        "device",
        "shown_device",
        "emulated",
        "labelled_by",
        "quality_warnings",
        "baseline",
        "points",
    }
    assert value["emulated"] is False
    keys = {"trial", "plan", "values", "intervals", "reasons", "notes", "feasible", "flags", "basis", "on_device"}
    keys |= {"shares", "warnings", "breaks", "unjudged", "sha256", "file", "on_test"}
    assert value["baseline"].keys() == keys
    for point in value["points"]:
        assert point.keys() == keys | {"on_front", "is_knee", "tied"}
        assert Plan.from_json(point["plan"]).backbone == "fake_vit"
        assert all(len(pair) == 2 for pair in point["intervals"].values())
        assert point["values"]["energy_mj"] is None
        assert point["reasons"]["energy_mj"] == "a fake has no meter"


def test_no_point_of_a_real_run_dominates_another(finished):
    with finished.opened() as (study, ledger):
        front = read_front(study, ledger)
    losses = [loss(front.objectives, point.metrics.values) for point in front.points]
    assert not any(dominates(own, other) for own in losses for other in losses)
    assert front.baseline.plan.compression.is_identity


@pytest.mark.parametrize(("correct", "agrees"), [(85, True), (70, False)])
def test_the_device_may_disagree_beyond_chance(front_of, capsys, correct, agrees):
    front_of()  # the study is there
    counts = [[0, 0, correct], [0, 1, 100 - correct]]
    front_of.ledger.add(evaluation("a-a", DATA["fingerprint"], counts, "device"), StageCost(0, {}))
    front = front_of(confirmed("a", 0.9, 2.0), data=DATA)
    on_device = json_of(printed(front))["points"][0]["on_device"]
    assert (on_device["metric"], on_device["value"], on_device["n"]) == ("accuracy", correct / 100, 100)
    assert on_device["agrees"] == agrees
    print_front(front)
    assert (
        "accuracy 0.700 (0.604 to 0.781) on 100 images on the device itself" in capsys.readouterr().out
    ) is not agrees


def test_what_was_shipped_has_its_accuracy_on_the_test_images(front_of):
    front_of()  # the study is there
    tested = {
        "split": "test",
        "sha256": "c" * 64,
        "n": 100,
        "figures": Metrics.of({"accuracy": 0.84}, {"accuracy": (0.756, 0.899)}).to_json(),
        "tally": [[0, 0, 84], [0, 1, 16]],
        "on_images": Metrics.of({"accuracy": 1.0}).to_json(),
        "outputs_sha256": "f" * 64,
        "masks_sha256": None,
        "reference_sha256": None,
    }
    tested |= {"labels": [0], "licences": {}, "batch": 1}
    key = shipped.key_of("a-a", DATA["fingerprint"])
    front_of.ledger.add(ArtifactRow(key, Stage.SHIP, "e" * 64, 1, "here", tested), StageCost(0, {}))
    front = front_of(confirmed("a", 0.9, 2.0), data=DATA)
    assert json_of(printed(front))["points"][0]["on_test"] == {
        "metric": "accuracy",
        "value": 0.84,
        "interval": [0.756, 0.899],
        "n": 100,
    }


class TestInt8InNameOnly:
    """A note on a precision stands beside the times of the study, and says these."""

    @pytest.fixture
    def points(self, front_of, space, plan):
        """Points of an fp32 and an int8 model of one graph, the second of which computes next to nothing in int8."""
        fp32, int8 = (
            replace(plan, deployments=(plan.deployment.at(precision),)) for precision in ("fp32", "int8_dynamic")
        )
        for name, ms in (("fp32", 0.63), ("int8", 0.51)):
            measured(front_of.ledger, name, ms)
        records = {
            number: replace(confirmed(name, 0.9, 9.0), plan=own)
            for number, (name, own) in enumerate((("fp32", fp32), ("int8", int8)))
        }
        current = CurrentFigures(front_of.ledger)
        times = OwnTimes(records, ("accuracy", "cpu_ms_p50"), current)
        return [
            times.added_to(Point(number, record.plan, record.keys, current.now(record)[0], shares=SHARES[number]))
            for number, record in records.items()
        ]

    def test_says_the_ratio_that_was_measured_here(self, points):
        (said,) = points[1].warnings
        start, _, own = said.partition("; ")
        assert start == "int8 in name only: 1% of its MACs, 99% are in fp32"
        assert own.startswith("here its cpu_ms_p50 is 0.81 (0.")
        assert own.endswith(") times that of fp32, trial 0")

    def test_is_not_said_of_the_other(self, points):
        assert points[0].warnings == ()

    def test_has_no_figure_from_elsewhere(self, points):
        int8 = points[1].plan.deployment
        linear = replace(int8, precision="int8_ptq", quantized_ops="linear")
        point = replace(points[1], plan=replace(points[1].plan, backbone="efficientvit_fmnist", deployments=(linear,)))
        assert len(point.warnings) == 1, "the shares of its own file are known"
        (elsewhere,) = replace(point, shares={}).warnings
        assert "onnxruntime 1.32.0, 2026-11-26" in elsewhere


SHARES = ({"fp32": 1.0}, {"fp32": 0.99, "int8": 0.01})


COUNTS = {
    "base": [[0, 0, 500], [0, 1, 150], [0, 2, 150], [1, 0, 100], [1, 1, 160], [2, 0, 10], [2, 2, 80]],
    "a": [[0, 0, 795], [0, 1, 5], [1, 0, 20], [1, 1, 240], [2, 0, 60], [2, 1, 22], [2, 2, 8]],
    "b": [[0, 0, 790], [0, 1, 10], [1, 0, 30], [1, 1, 230], [2, 0, 75], [2, 2, 15]],
    "c": [[0, 0, 780], [0, 1, 20], [1, 1, 260], [2, 0, 10], [2, 2, 80]],
}
"""800 images without a defect, 260 scratches, 90 local defects."""
OF_DEFECTS = DATA | {"class_names": ["none", "scratch", "local"]}


@pytest.fixture
def front_of_defects(front_of):
    """Models a, b, c whose files were evaluated on 1,150 images of three classes."""
    front_of()  # the study is there
    for name, cells in COUNTS.items():
        row = evaluation(f"a-{name}", DATA["fingerprint"], cells)
        front_of.ledger.add(row, StageCost(0, {}))

    def model(name, ms):
        counts = Confusion.from_json(COUNTS[name])
        figures = {"accuracy": Figure(counts.accuracy), "cpu_ms_p50": Figure(ms)} | counts.figures()
        return Record("confirmed", None, keys=keys_of(name), metrics=Metrics(figures))

    baseline = {"accuracy": 740 / 1150, "cpu_ms_p50": 3.0}
    return front_of(model("a", 1.0), model("b", 0.9), model("c", 2.0), baseline=baseline, data=OF_DEFECTS)


def test_a_front_names_the_classes_that_its_knee_and_its_other_models_miss(front_of_defects, capsys):
    said = [
        "the baseline is no more accurate than always saying 'none': 0.643 (0.615 to 0.671), and 0.696 of the images "
        "are of that class; its mean recall is 0.71 instead of 0.33",
        "trial 0, the knee, finds 8 of 90 'local': less than half of the mean recall, 0.67",
        "trial 1 of the front misses a class in the same way: 'local'",
    ]
    assert front_of_defects.quality_warnings() == said
    where = "postgresql://me:hunter2@server/teams#parts"
    show(SimpleNamespace(where=where, front=lambda device: front_of_defects), Query(), Form.TABLE)
    shown = " ".join(capsys.readouterr().out.split())
    assert all(line in shown for line in said)
    assert "Every class: vitsearch show 'postgresql://me:***@server/teams#parts' 0 --per-class" in shown


def test_each_model_says_which_class_it_misses(front_of_defects):
    by_trial = {point.trial: list(point.warnings) for point in printed(front_of_defects).points}
    assert by_trial[0] == ["trial 0 finds 8 of 90 'local': less than half of the mean recall, 0.67"]
    assert by_trial[2] == []


def test_every_model_says_that_its_training_knows_the_validation_images(front_of, capsys):
    data = DATA | {"leaks": {"validation": {"images": 200, "alike": 23}, "test": {"images": 500, "alike": 4}}}
    front = front_of(confirmed("a", 0.9, 2.0), baseline={"accuracy": 0.9, "cpu_ms_p50": 4.0}, data=data)
    (line,) = front.points[0].warnings
    assert line.startswith("23 of the 200 validation images that were compared show nearly the same as training")
    assert all(point.warnings == (line,) for point in front.shown())
    print_front(front)
    shown = capsys.readouterr().out.replace("\n", " ")
    assert shown.count("23 of the 200 validation images") == 1
    assert "baseline, trial 0: 23 of the 200" in shown


def test_models_are_filtered_and_sorted_by_their_worst_class(front_of_defects):
    selection = Selection.of("recall_min > 0.1", "recall_min", front_of_defects.objectives)
    assert [point.trial for point in selection.of_points(front_of_defects.points)] == [2, 1]


def test_a_limit_of_the_worst_class_keeps_a_model_off_the_front(front_of, front_of_defects, space):
    limits = {"recall_min": LimitSection(min=0.5), "accuracy_balanced": LimitSection(min=0.6)}
    front = front_of(changed=space.model_copy(update={"limits": limits}))
    assert [point.trial for point in front.points] == [2]
    breaks = {point.trial: point.breaks for point in front.others}
    assert "recall_min>=0.5" in breaks[0]
    assert "recall_min>=0.5" in breaks[1]


@pytest.mark.parametrize("limit", [LimitSection(max=5.0), LimitSection(max_ratio=0.5)])
def test_a_limit_on_a_metric_without_a_value_is_not_met(front_of, space, limit):
    changed = space.model_copy(update={"limits": {"energy_mj": limit}})
    front = front_of(confirmed("a", 0.9, 2.0), changed=changed, baseline={"accuracy": 0.9, "cpu_ms_p50": 3.0})
    (point,) = front.points
    assert (point.breaks, point.unjudged, point.meets_limits) == ((), ("energy_mj",), None)
    (model,) = json_of(printed(front))["points"]
    assert (model["feasible"], model["breaks"], model["unjudged"]) == (None, [], ["energy_mj"])
    (row,) = standings(front)
    assert (row.models, row.within_limits, row.unjudged) == (1, 0, 1)


def test_every_model_of_a_run_has_the_figures_of_its_classes(finished):
    with finished.opened() as (study, ledger):
        for point in read_front(study, ledger).shown():
            evaluated = ledger.evaluation(point.keys.artifact_key, DATA["fingerprint"])
            judged = judged_counts(Confusion.from_json(evaluated.tally), DATA["class_names"])
            assert {name: point.metrics.figures[name] for name in judged.figures} == judged.figures
