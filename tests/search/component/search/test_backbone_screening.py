"""Backbones that cannot meet the limits are dropped before their bases are trained."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from itertools import count

import pytest

from vitsearch.core.image_size import ImageSize
from vitsearch.core.policy import POLICY
from vitsearch.core.stage import Stage
from vitsearch.errors import StageError, StudyError
from vitsearch.pipeline.progress import Silent
from vitsearch.search.backbone_screening import cheapest
from vitsearch.stages import BaseJob, ExportJob, ScreenJob
from vitsearch.study.dropped_backbones import dropped_backbones
from vitsearch.study.results.explanation import read_explanation
from vitsearch.study.sampling import PlanSpace
from vitsearch.testing.fakes import FakeRunner

SCREEN = "screen-1"
"""The protocol of a screening measurement."""


def no_rigid_backbone_is_pruned(backbone, knob, value):
    is_cut = knob.endswith("_pruning_ratio") and value
    return "has nothing to cut" if backbone.startswith("rigid") and is_cut else None


@dataclass
class Notes(Silent):
    texts: list[str] = field(default_factory=list)

    def note(self, text):
        self.texts.append(text)


@pytest.fixture
def several(fake_study):
    """several(NAME, ...) -> a study of untrained backbones, of which those called rigid cannot be pruned. At their
    cheapest those take 1.296 ms, others 0.468 ms."""

    class Study(type(fake_study)):
        def plans(self):
            supports = no_rigid_backbone_is_pruned
            return PlanSpace(self.space, self.device.name, supports, lambda backbone: ImageSize.square(28))

    def make(*names, cpu_ms=1.0, **changes):
        study = Study(fake_study.folder, fake_study.space, FakeRunner(), progress=Notes())
        limits = {"cpu_ms_p50": {"max": cpu_ms}}
        backbones = [{"name": name, "weights": "hub"} for name in names]
        fixed = {
            "space__backbone": backbones,
            "limits": limits,
            "baseline": {"backbone": names[0]},
            "search__trials": 1,
        }
        return study.with_space(**fixed | changes)

    return make


def bases(study):
    """The backbones whose bases are trained from here on."""
    trained = []
    before = study.runner.before

    def note(job):
        before(job)
        if isinstance(job, BaseJob):
            trained.append(job.source.backbone)

    study.runner.before = note
    return trained


def dropped(study):
    with study.opened() as (opened, _):
        return {backbone.backbone: backbone for backbone in dropped_backbones(opened)}


def test_a_backbone_that_misses_a_limit_in_every_choice_gets_no_base(several):
    study = several("fake_vit", "rigid_vit")
    trained = bases(study)
    assert study.run().complete
    assert set(trained) == {"fake_vit"}
    assert {record.plan.backbone for record in study.records().values()} == {"fake_vit"}


def test_the_reason_has_the_nearest_choice_and_its_figure(several):
    study = several("fake_vit", "rigid_vit")
    study.run()
    (backbone,) = dropped(study).values()
    said = (
        "rigid_vit cannot meet the limits: the nearest of 3 choices, rigid_vit@24 int8_dynamic, "
        "has cpu_ms_p50 1.296 (1.296 to 1.296), above 1"
    )
    assert backbone.describe() == said
    assert f"not searched: {said}" in study.progress.texts
    with study.opened() as opened:
        assert read_explanation(*opened).dropped == (backbone,)


def test_one_that_meets_the_limits_only_when_it_is_cut_most_stays(several):
    study = several("fake_vit", "other_vit", cpu_ms=0.5)
    assert study.run().complete
    assert dropped(study) == {}
    assert {record.plan.backbone for record in study.records().values()} == {"fake_vit", "other_vit"}


def test_one_that_meets_the_limits_unpruned_is_measured_once_before_its_base(several):
    study = several("fake_vit", "rigid_vit", cpu_ms=4.0)
    trained = bases(study)
    screened = []
    before = study.runner.before

    def note(job):
        before(job)
        if isinstance(job, ScreenJob) and "rigid_vit" not in trained:
            screened.append(job.spec.source)

    study.runner.before = note
    study.run()
    assert [(source.backbone, source.weights) for source in screened] == [("rigid_vit", "none")]


def test_nothing_is_measured_twice(several):
    """The unpruned rigid model was screened before its base was trained; the leaderboard has its time."""
    study = several("fake_vit", "rigid_vit", cpu_ms=4.0, search__trials=0)
    study.run()
    assert study.device.measured[SCREEN] == 4  # two backbones in two precisions


def test_a_resumed_run_drops_the_same_and_makes_nothing(several):
    study = several("fake_vit", "rigid_vit", "rigid_other")
    study.run()
    first, measured, runs = dropped(study), study.device.measured.copy(), study.runner.runs.copy()
    trained = bases(study)
    study.run()
    assert dropped(study) == first
    assert trained == []
    assert study.device.measured == measured
    made = study.runner.runs - runs
    assert set(made) <= {Stage.BLOCK_STRUCTURE}


def test_a_wider_limit_brings_it_back(several):
    several("fake_vit", "rigid_vit").run()
    wider = several("fake_vit", "rigid_vit", cpu_ms=4.0)
    wider.run()
    assert dropped(wider) == {}
    assert "rigid_vit" in {record.plan.backbone for record in wider.records().values()}


def test_the_backbone_of_the_baseline_stays(several):
    study = several("rigid_vit", "rigid_other", "fake_vit")
    study.run()
    assert set(dropped(study)) == {"rigid_other"}


def test_where_none_is_left_the_run_ends_before_anything_is_trained(several):
    study = several("rigid_vit", "rigid_other", "fake_vit", cpu_ms=0.1)
    with pytest.raises(StudyError) as caught:
        study.run()
    head, *lines = str(caught.value).splitlines()
    assert head.startswith("no backbone of the space can meet the limits, and none was trained; ")
    assert [line.split()[0] for line in lines] == ["rigid_other", "fake_vit", "rigid_vit"]
    assert "fake_vit@24 heads-67% ffn-75% int8_dynamic, has cpu_ms_p50 0.468 " in lines[1]
    assert study.runner.runs[Stage.BASE] == 0


def test_the_file_alone_may_decide(several):
    study = several("fake_vit", "rigid_vit").with_space(limits={"size_mb": {"max": 0.0001}})
    with pytest.raises(StudyError, match=r"rigid_vit.* has size_mb 0\.001, above 0\.0001"):
        study.run()
    assert study.device.measured.total() == 0


def test_a_relative_limit_is_judged_beside_the_baseline(several):
    study = several("fake_vit", "rigid_vit").with_space(limits={"cpu_ms_p50": {"max_ratio": 0.3}})
    trained = bases(study)
    study.run()
    assert set(dropped(study)) == {"rigid_vit"}  # 1.296 of 3.6 ms
    assert set(trained) == {"fake_vit"}


def test_a_device_that_cannot_hold_a_model_decides_too(several):
    study = several("fake_vit", "rigid_vit")
    numbers = count()

    def refuses(path):
        if next(numbers) < 3:  # the choices of rigid_vit
            raise StageError("measure", "out_of_memory", "it needs 2 GB")

    study.device.before = refuses
    study.run()
    assert dropped(study)["rigid_vit"].miss == "does not fit the device: it needs 2 GB"


def test_what_cannot_be_screened_stays(several):
    study = several("fake_vit", "rigid_vit")

    def breaks(job):
        if isinstance(job, ScreenJob) and job.spec.source.weights == "none":
            raise StageError("screen", "crash", "no such operator")

    study.runner.before = breaks
    study.run()
    assert dropped(study) == {}
    assert any(text.startswith("rigid_vit stays, as it could not be screened: ") for text in study.progress.texts)


def test_what_has_too_many_choices_stays(several):
    study = several("fake_vit", "rigid_vit")
    policy = replace(POLICY, backbones=replace(POLICY.backbones, most_choices=2))
    replace(study, policy=policy).run()
    assert dropped(study) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"limits": {"accuracy": {"min": 0.5}}},
        {"space__backbone": [{"name": "fake_vit", "weights": "builtin"}, {"name": "rigid_vit", "weights": "hub"}]},
        {"space__quantization": ["fp32", "int8_mixed"]},
    ],
    ids=["no limit that screening judges", "one base to train", "layers that follow from trained weights"],
)
def test_where_nothing_can_be_saved_or_told_all_stay(several, changes):
    study = several("fake_vit", "rigid_vit").with_space(**changes)
    study.run()
    assert dropped(study) == {}
    assert "rigid_vit" in {record.plan.backbone for record in study.records().values()}


def test_the_cheapest_plans_have_each_choice_that_ratios_do_not_order(several):
    changes = {
        "space__token_pruning_ratio": [0.0, 0.2, 0.4],
        "space__token_pruning_method": ["topk", "tome"],
        "space__pruning_scope": ["uniform", "global"],
        "space__distillation": ["none", "logits"],
    }
    plans = several("fake_vit", **changes).plans()
    words = {"backbone": "fake_vit", "backend": "onnxruntime", "provider": "cpu", "quantization": "fp32"}
    cut = [plan.compression for plan in cheapest(plans, words)]
    assert {(it.head_pruning_ratio, it.ffn_pruning_ratio) for it in cut} == {(0.67, 0.75)}
    seen = [(it.scope, it.token_pruning_ratio, it.token_pruning_method) for it in cut]
    assert len(seen) == len(set(seen)) == 6
    assert {it[1:] for it in seen} == {(0.0, None), (0.4, "topk"), (0.4, "tome")}
    assert {plan.resolution for plan in cheapest(plans, words)} == {ImageSize.square(24)}


def test_the_cheapest_plans_have_the_fewest_and_the_most_threads_and_streams(several):
    """More threads may shorten a run or slow it down, more streams raise throughput and latency."""
    plans = several("fake_vit", space__threads=[1, 2, 4], space__streams=[1, 2, 4]).plans()
    words = {"backbone": "fake_vit", "backend": "onnxruntime", "provider": "cpu", "quantization": "fp32"}
    runs = {(plan.deployment.threads, plan.deployment.streams) for plan in cheapest(plans, words)}
    assert runs == {(1, 1), (1, 4), (4, 1), (4, 4)}


def test_the_key_of_a_measurement_does_not_depend_on_the_training(several, ledger):
    study = several("fake_vit", "rigid_vit")
    pipeline = study.pipeline(ledger)
    plan = next(study.plans().leaderboard())

    async def keys():
        untrained = await pipeline.resolve_untrained(plan)
        return untrained.stage_keys, (await pipeline.resolve(plan)).stage_keys

    untrained, trained = asyncio.run(keys())
    assert untrained.graph == trained.graph
    assert untrained.screened != trained.screened


def test_no_base_waits_for_the_baseline_to_be_measured(several):
    study = several("fake_vit", "other_vit")
    order = []
    study.runner.before = lambda job: order.append(job)
    assert study.run().complete
    bases = {job.source.backbone: place for place, job in enumerate(order) if isinstance(job, BaseJob)}
    exported = next(place for place, job in enumerate(order) if isinstance(job, ExportJob))
    assert bases.keys() == {"fake_vit", "other_vit"}
    assert max(bases.values()) < exported


def test_a_base_that_fails_ahead_is_said_by_the_leaderboard_and_ends_nothing(several):
    study = several("fake_vit", "other_vit")

    def fail(job):
        if isinstance(job, BaseJob) and job.source.backbone == "other_vit":
            raise StageError("base", "crash", "no more")

    study.runner.before = fail
    assert study.run().complete
    assert any("leaderboard: other_vit" in said and "no more" in said for said in study.progress.texts)
