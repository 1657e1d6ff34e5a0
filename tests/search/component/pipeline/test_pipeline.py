"""Stages: looked up, else made once, whoever wants them."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from typing import ClassVar

import pytest

from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import PythonNetwork
from vitsearch.core.plan import Augmentation, Compression, QuantizationAware
from vitsearch.core.preprocessing import PreprocessingKeys
from vitsearch.errors import StageError
from vitsearch.pipeline import single_flight
from vitsearch.pipeline.config import Teacher
from vitsearch.pipeline.progress import Silent
from vitsearch.pipeline.resolved_trial import KeyedModel
from vitsearch.stages import BaseJob, ExportJob, Job, ProxyJob, ScreenJob, TrainJob
from vitsearch.stages.calibration import Calibration
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Claim, Ledger
from vitsearch.testing.fakes import FakeRunner, fake_stage_config
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN


@pytest.fixture
def ledger(fake_study):
    ledger = Ledger.open(fake_study.space.storage)
    yield ledger
    ledger.close()


@pytest.fixture
def pipeline(fake_study, ledger):
    return fake_study.pipeline(ledger)


@pytest.fixture
def cut(plan):
    return replace(plan, compression=Compression(0.5, 0.5))


async def through(pipeline, plan):
    """All stages of a plan."""
    trial = await pipeline.resolve(plan)
    await pipeline.screen(trial)
    await pipeline.proxy(trial)
    await pipeline.train(trial, 1)
    return await pipeline.confirm(trial, 1)


async def confirm(pipeline, plan):
    return await pipeline.confirm(await pipeline.resolve(plan), 1)


async def train_to_the_end(pipeline, plan):
    return await pipeline.train(await pipeline.resolve(plan), plan.recipe.rungs[-1])


ONCE = {
    "base": 1, "block_structure": 1, "screen": 1,
    "logits": 2, "proxy": 1, "train": 1,
    "export": 1,
}  # fmt: skip


def test_all_stages_are_made_once(pipeline, cut, fake_study):
    _, metrics = asyncio.run(through(pipeline, cut))
    assert metrics.value("cpu_ms_p50") == pytest.approx(2.0)
    assert fake_study.runner.runs == ONCE
    assert fake_study.device.measured == {SCREEN.id: 1}


def test_a_file_is_judged_at_the_batch_that_the_device_measures(pipeline, cut, fake_study, ledger):
    jobs = []
    fake_study.runner.before = jobs.append
    pipeline.protocols = replace(pipeline.protocols, confirm=CONFIRM._replace(batch=2))
    keys, _ = asyncio.run(through(pipeline, replace(cut, deployments=(replace(cut.deployment, batch=None),))))
    assert [job.batch for job in jobs if isinstance(job, ExportJob)] == [2]
    assert ledger.evaluation(keys.artifact_key, pipeline.config.data.fingerprint).batch == 2


def test_a_later_run_makes_nothing(pipeline, cut, fake_study, ledger):
    results = asyncio.run(through(pipeline, cut))
    assert asyncio.run(through(fake_study.pipeline(ledger), cut)) == results
    assert fake_study.runner.runs == ONCE
    assert fake_study.device.measured == {SCREEN.id: 1}


OURS = PythonNetwork("fake_vit", "ours:make", ".", ImageSize.square(28), architecture="a" * 64, structure="b" * 64)


@pytest.mark.parametrize(
    ("other", "again"),
    [
        (OURS, {}),
        (replace(OURS, structure="c" * 64), {"block_structure": 2}),
        (replace(OURS, architecture="c" * 64), {"block_structure": 2, "logits": 4, "proxy": 2, "train": 2, "screen": 2,
                                                "export": 2}),
    ],
)  # fmt: skip
def test_a_network_of_the_same_weights_shares_what_does_not_depend_on_its_code(cut, fake_study, ledger, other, again):
    """The weights that a base ends with may be those of its file, which says nothing of what is computed with them."""
    for network in (OURS, other):
        asyncio.run(through(replace(fake_study, networks=(network,)).pipeline(ledger), cut))
    assert fake_study.runner.runs == ONCE | again


def test_what_was_deleted_is_made_again(pipeline, cut, fake_study, ledger):
    keys, metrics = asyncio.run(through(pipeline, cut))
    shutil.rmtree(fake_study.folder / "artifacts")
    again = fake_study.pipeline(ledger)
    assert asyncio.run(through(again, cut)) == (keys, metrics)
    assert fake_study.runner.runs == {**ONCE, "base": 2, "block_structure": 2, "logits": 4, "train": 2, "export": 2}
    assert fake_study.device.measured == {SCREEN.id: 1}


def test_a_deleted_checkpoint_is_trained_again_for_a_further_rung(pipeline, cut, fake_study, ledger):
    plan = replace(cut, recipe=replace(cut.recipe, rungs=(0, 1, 3)))
    asyncio.run(through(pipeline, plan))
    weights = asyncio.run(pipeline.resolve(plan)).keys.weights_key
    checkpoint = ledger.training(weights, 1).checkpoint_sha256
    pipeline.context.workspace.store.get(checkpoint).unlink()
    asyncio.run(train_to_the_end(pipeline, plan))
    assert fake_study.runner.runs["train"] == 3
    assert pipeline.context.workspace.store.holds(checkpoint)


def test_two_that_want_a_stage_at_once_make_it_once(pipeline, cut, fake_study):
    async def both():
        return await asyncio.gather(through(pipeline, cut), through(pipeline, cut))

    first, second = asyncio.run(both())
    assert first == second
    assert fake_study.runner.runs == ONCE
    assert fake_study.device.measured == {SCREEN.id: 1}


def test_one_training_serves_every_precision(pipeline, cut, fake_study):
    quantized = replace(cut, deployments=(replace(cut.deployment, precision="int8_dynamic"),))
    for plan in (cut, quantized):
        asyncio.run(through(pipeline, plan))
    runs = fake_study.runner.runs
    assert (runs["train"], runs["proxy"]) == (1, 1)
    assert (runs["export"], runs["screen"]) == (2, 2)


def quantization_aware(cut):
    return replace(cut, deployments=(replace(cut.deployment, precision="int8_qat"),))


def test_int8_qat_trains_on_from_the_training_of_every_precision(pipeline, cut, fake_study, ledger):
    seen = []
    fake_study.runner.before = lambda job: seen.append(job) if isinstance(job, TrainJob | ExportJob) else None
    for plan in (cut, quantization_aware(cut)):
        asyncio.run(through(pipeline, plan))
    runs = fake_study.runner.runs
    assert (runs["proxy"], runs["train"], runs["train_int8"], runs["export"]) == (1, 1, 1, 2)
    trained, _, rounded, _ = seen
    assert (rounded.start, rounded.end) == (1, 2.0)
    assert rounded.targets == trained.targets
    assert rounded.calibration == Calibration(8, 0, "quantization")


def test_a_deleted_int8_model_is_exported_from_its_own_checkpoint(pipeline, cut, fake_study, ledger):
    keys, _ = asyncio.run(through(pipeline, quantization_aware(cut)))
    store = pipeline.context.workspace.store
    store.drop_model(ledger.artifact(keys.artifact_key).sha256)
    store.get(ledger.training(keys.weights_key, 1).checkpoint_sha256).unlink()
    asyncio.run(confirm(pipeline, quantization_aware(cut)))
    runs = fake_study.runner.runs
    assert (runs["train"], runs["train_int8"], runs["export"]) == (1, 1, 2)


def test_one_training_for_int8_serves_every_deployment_that_wants_it(pipeline, cut, fake_study):
    plan = quantization_aware(cut)
    with_options = replace(plan, deployments=(replace(plan.deployment, options=(("graph_optimization", "basic"),)),))
    plain, other = (asyncio.run(through(pipeline, it))[0] for it in (plan, with_options))
    assert fake_study.runner.runs["train_int8"] == 1
    assert fake_study.runner.runs["export"] == 2
    assert plain.weights_key == other.weights_key
    assert plain.graph_key != other.graph_key


@pytest.mark.parametrize(
    "change", [{"qat": QuantizationAware(lr=0.3)}, {"qat": QuantizationAware(2.0)}, {"quantization_images": 9}]
)
def test_other_settings_are_another_training_for_int8_and_the_same_float_training(fake_study, ledger, cut, change):
    plan = quantization_aware(cut)
    keys = [asyncio.run(through(fake_study.pipeline(ledger, **it), plan))[0] for it in ({}, change)]
    runs = fake_study.runner.runs
    assert (runs["train"], runs["train_int8"], runs["export"]) == (1, 2, 2)
    assert keys[0].artifact_key != keys[1].artifact_key
    assert keys[0].weights_key == keys[1].weights_key


def test_mixed_precisions_share_one_look_at_the_layers_and_the_training(pipeline, cut, fake_study):
    mixed = replace(cut, deployments=(replace(cut.deployment, precision="int8_mixed"),))
    lighter = replace(mixed, compression=Compression(0.5, 0.25))

    async def trial():
        return [await pipeline.resolve(plan) for plan in (cut, mixed, lighter)]

    plain, quantized, other = asyncio.run(trial())
    assert fake_study.runner.runs["sensitivity"] == 1
    assert plain.spec.resolved.fp32_layers == ()
    assert (
        quantized.spec.resolved.fp32_layers
        == other.spec.resolved.fp32_layers
        == ("blocks.2.mlp.fc1", "blocks.2.mlp.fc2")
    )
    assert plain.keys.weights_key == quantized.keys.weights_key


def test_the_leaderboard_does_not_train_for_int8(pipeline, cut, fake_study):
    async def unpruned():
        return await pipeline.confirm(await pipeline.resolve(quantization_aware(cut)), 0)

    asyncio.run(unpruned())
    assert fake_study.runner.runs["train_int8"] == 0
    assert fake_study.runner.runs["export"] == 1


def files_of(fake_study, ledger, plan, **changes):
    """Names of the exported file and of the graph, and the calibrations that workers were told."""
    calibrations = []
    fake_study.runner.before = lambda job: (
        calibrations.append(job.calibration) if isinstance(job, (ScreenJob, ExportJob)) else None
    )
    keys = asyncio.run(through(fake_study.pipeline(ledger, **changes), plan))[0]
    return keys.artifact_key, keys.graph_key, calibrations


@pytest.mark.parametrize("change", [{"quantization_images": 9}, {"seed": 1}])
@pytest.mark.parametrize(("precision", "another"), [("fp32", False), ("int8_dynamic", False), ("int8_ptq", True)])
def test_other_calibration_images_give_another_file_of_static_int8_only(
    fake_study, ledger, cut, precision, another, change
):
    plan = replace(cut, deployments=(replace(cut.deployment, precision=precision),))
    artifact, graph, calibrations = files_of(fake_study, ledger, plan)
    other_artifact, same_graph, _ = files_of(fake_study, ledger, plan, **change)
    assert calibrations == [Calibration(8, 0, "quantization")] * 2  # the screen and the export
    assert (other_artifact != artifact) is another
    assert same_graph == graph


def test_two_that_fail_together_fail_alike_and_may_try_again(pipeline, cut, fake_study):
    def fail(job):
        if isinstance(job, ProxyJob):
            raise StageError("proxy", "not_finite", "nan")

    fake_study.runner.before = fail

    async def both():
        trial = await pipeline.resolve(cut)
        return await asyncio.gather(pipeline.proxy(trial), pipeline.proxy(trial), return_exceptions=True)

    assert [error.kind for error in asyncio.run(both())] == ["not_finite"] * 2
    fake_study.runner.before = lambda job: None
    asyncio.run(through(pipeline, cut))
    assert fake_study.runner.runs["proxy"] == 1


def test_one_that_gives_up_does_not_stop_the_other(pipeline, cut, fake_study):
    async def both():
        trial = await pipeline.resolve(cut)
        first, second = (asyncio.ensure_future(pipeline.proxy(trial)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(both()).qualities["accuracy"] > 0.8


# ---- claims


def token(driver):
    return json.dumps(driver.to_json(), sort_keys=True)


ELSEWHERE = replace(DriverId.current(), host="elsewhere")


def test_a_stage_that_another_driver_makes_is_waited_for(pipeline, cut, fake_study, ledger, monkeypatch):
    polls = []

    async def poll(seconds):
        """While we wait, the other driver finishes."""
        if seconds == single_flight.CLAIM_POLL_S and not polls:
            polls.append(seconds)
            ledger.release(Claim(key, token(ELSEWHERE)))
            await through(other, cut)
        else:
            await real_sleep(0)

    real_sleep = asyncio.sleep
    other = fake_study.pipeline(ledger, ELSEWHERE)
    trial = asyncio.run(pipeline.resolve(cut))
    key = f"train:{trial.keys.weights_key}:1"
    assert ledger.claim(Claim(key, token(ELSEWHERE)), 60)
    monkeypatch.setattr(single_flight.asyncio, "sleep", poll)
    asyncio.run(through(pipeline, cut))
    assert polls == [single_flight.CLAIM_POLL_S]
    assert fake_study.runner.runs == ONCE


def test_what_was_ended_between_look_and_claim_is_not_made_again(pipeline, cut, fake_study, ledger, monkeypatch):
    other = fake_study.pipeline(ledger, ELSEWHERE)
    asyncio.run(through(other, cut))
    looks = []
    real = Ledger.training

    def late(self, key, rung):
        """The first look of each key finds nothing yet."""
        first = (key, rung) not in looks
        looks.append((key, rung))
        return None if first else real(self, key, rung)

    monkeypatch.setattr(Ledger, "training", late)
    asyncio.run(through(pipeline, cut))
    assert fake_study.runner.runs == ONCE
    assert ledger.claims() == {}


def test_a_claim_is_held_while_a_stage_is_made_and_released_after(pipeline, cut, fake_study, ledger):
    claims = []
    fake_study.runner.before = lambda job: claims.extend(ledger.claims()) if isinstance(job, TrainJob) else None
    asyncio.run(through(pipeline, cut))
    assert any(key.startswith("train:") for key in claims)
    assert ledger.claims() == {}


def test_a_claim_is_released_when_the_stage_fails(pipeline, cut, fake_study, ledger):
    def fail(job):
        raise StageError("base", "crash", "x")

    fake_study.runner.before = fail
    with pytest.raises(StageError):
        asyncio.run(pipeline.resolve(cut))
    assert ledger.claims() == {}


def test_claims_are_renewed_while_stages_are_made(pipeline, cut, fake_study, ledger):
    def before(job):
        for key in ledger.claims():
            ledger.claim(Claim(key, pipeline.context.single_flight._token), -1)  # it has nearly run out
            pipeline.context.single_flight.renew()
            assert not ledger.take_over(Claim(key, "another"), 60)

    fake_study.runner.before = before
    asyncio.run(through(pipeline, cut))


def test_claims_of_drivers_that_died_here_are_dropped(pipeline, ledger):
    dead = replace(DriverId.current(), started="1")
    for driver in (dead, ELSEWHERE, DriverId.current()):
        ledger.claim(Claim(f"train:{driver.host}:{driver.started}", token(driver)), 60)
    pipeline.context.single_flight.drop_dead()
    assert token(dead) not in ledger.claims().values()
    assert len(ledger.claims()) == 2


# ---- files


def test_what_was_screened_is_dropped_from_the_scratch_store(pipeline, cut, fake_study):
    asyncio.run(through(pipeline, cut))
    scratch = fake_study.folder / "scratch"
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_int8_ptq_and_int8_qat_of_one_cut_are_one_measurement(pipeline, cut, plan, fake_study, monkeypatch):
    rounded = [replace(cut, deployments=(replace(cut.deployment, precision=p),)) for p in ("int8_ptq", "int8_qat")]
    measure, first = fake_study.device.measure, asyncio.Event()

    async def in_turn(*arguments):
        if first.is_set():
            await asyncio.sleep(0.01)
        first.set()
        return await measure(*arguments)

    monkeypatch.setattr(fake_study.device, "measure", in_turn)

    async def side_by_side():
        return await asyncio.gather(*[pipeline.screen(await pipeline.resolve(plan)) for plan in rounded])

    ptq, qat = asyncio.run(side_by_side())
    assert ptq.value("cpu_ms_p50") == qat.value("cpu_ms_p50")
    assert fake_study.device.measured == {SCREEN.id: 1}
    assert [path for path in (fake_study.folder / "scratch").rglob("*") if path.is_file()] == []


def test_a_scratch_file_that_was_lost_is_built_again(pipeline, cut, fake_study):
    def lose(path):
        path.unlink()
        raise StageError("measure", "crash", "the agent died")

    fake_study.device.before = lose
    with pytest.raises(StageError):
        asyncio.run(through(pipeline, cut))
    fake_study.device.before = lambda path: None
    asyncio.run(through(pipeline, cut))
    assert fake_study.runner.runs["screen"] == 2
    assert fake_study.device.measured[SCREEN.id] == 1


# ---- measuring


def test_in_another_environment_it_is_measured_again(pipeline, cut, fake_study, ledger):
    asyncio.run(through(pipeline, cut))
    fake_study.device.info = fake_study.device.info._replace(environment_id="1" * 64)
    asyncio.run(through(fake_study.pipeline(ledger), cut))
    assert fake_study.device.measured == {SCREEN.id: 2}
    assert fake_study.runner.runs["train"] == 1


@pytest.mark.parametrize(("basis", "measured"), [("raw", {SCREEN.id: 1, CONFIRM.id: 1}), ("paired", {SCREEN.id: 2})])
def test_the_final_measurement_is_made_once(pipeline, cut, fake_study, basis, measured):
    fake_study.device.basis = basis
    keys, _ = asyncio.run(through(pipeline, cut))
    assert asyncio.run(pipeline.remeasure(KeyedModel(cut, keys), 1))
    assert not asyncio.run(pipeline.remeasure(KeyedModel(cut, keys), 1))
    assert fake_study.device.measured == measured


def test_a_model_that_is_shipped_is_confirmed_even_beside_references(pipeline, cut, fake_study):
    fake_study.device.basis = "paired"
    keys, _ = asyncio.run(through(pipeline, cut))
    asyncio.run(pipeline.measure_to_ship(KeyedModel(cut, keys), again=False))
    assert fake_study.device.measured == {SCREEN.id: 1, CONFIRM.id: 1}


def test_where_an_objective_needs_it_every_model_is_confirmed(cut, fake_study, ledger):
    asyncio.run(through(fake_study.pipeline(ledger, confirms=True), cut))
    assert fake_study.device.measured == {SCREEN.id: 1, CONFIRM.id: 1}


def test_a_plan_that_learns_of_its_base_stays_near_it(pipeline, cut, fake_study):
    seen: list[TrainJob] = []
    fake_study.runner.before = lambda job: seen.append(job) if isinstance(job, TrainJob) else None
    asyncio.run(through(pipeline, cut))
    assert [job.keeps for job in seen] == ["nearest"]


def test_without_distillation_no_teacher_is_asked(pipeline, cut, fake_study):
    asyncio.run(through(pipeline, replace(cut, distillation="none")))
    assert fake_study.runner.runs["logits"] == 1  # of the base, for the divergence


def test_a_named_teacher_is_a_base_of_its_own(fake_study, ledger, cut):
    seen: list[BaseJob] = []
    fake_study.runner.before = lambda job: seen.append(job) if isinstance(job, BaseJob) else None
    longer = replace(cut.recipe, rungs=(0, 9), lr=1e-3)
    pipeline = fake_study.pipeline(
        ledger, teacher=Teacher("big_vit", "hub", longer), starting_digest=lambda source: source.backbone
    )
    asyncio.run(through(pipeline, cut))
    assert {job.source.backbone: job.recipe for job in seen} == {
        "fake_vit": pipeline.config.base_recipe,
        "big_vit": longer,
    }
    assert pipeline.bases.keys() == {"fake_vit"}  # nobody searches among the teacher's plans


def test_a_teacher_of_the_same_name_with_a_budget_of_its_own_is_another_stage(fake_study, ledger, cut):
    own = replace(fake_stage_config().base_recipe, rungs=(0, 9))
    for recipe, bases in ((fake_stage_config().base_recipe, 1), (own, 2)):
        pipeline = fake_study.pipeline(ledger, teacher=Teacher("fake_vit", "builtin", recipe))
        asyncio.run(through(pipeline, cut))
        assert fake_study.runner.runs["base"] == bases


def test_a_study_that_finds_all_measurements_in_the_ledger_adopts_its_device_too(fake_study, ledger, cut):
    """Else it would go on with any other board: another study of the database has measured these graphs."""
    asyncio.run(confirm(fake_study.pipeline(ledger), cut))
    measured = dict(fake_study.device.measured)
    fake_study.device.adopted = 0
    asyncio.run(confirm(fake_study.pipeline(ledger), cut))
    assert dict(fake_study.device.measured) == measured
    assert fake_study.device.adopted > 0


def test_each_model_reads_images_by_the_keys_of_its_own_weights(fake_study, ledger, cut):
    """The same plan twice, and a teacher: three bases, two trainings, and one graph that is measured once."""
    jobs: list[Job] = []
    fake_study.runner.before = jobs.append
    teacher = Teacher("big_vit", "hub", fake_stage_config().base_recipe, PreprocessingKeys(mean=(0.3,)))
    pipeline = fake_study.pipeline(ledger, teacher=teacher)
    plans = (cut, replace(cut, preprocessing=PreprocessingKeys(mean=(0.1,), crop_share=0.9)))
    (first, _), (second, _) = [asyncio.run(through(pipeline, plan)) for plan in plans]
    assert first.weights_key != second.weights_key
    assert first.graph_key == second.graph_key
    assert fake_study.device.measured[SCREEN.id] == 1
    bases = {(job.source.backbone, job.source.preprocessing.mean) for job in jobs if isinstance(job, BaseJob)}
    assert bases == {("fake_vit", (0.5,)), ("fake_vit", (0.1,)), ("big_vit", (0.3,))}
    trained = [job for job in jobs if isinstance(job, TrainJob)]
    assert [job.spec.source.preprocessing.crop_share for job in trained] == [1.0, 0.9]
    stored = [ledger.artifact(keys.artifact_key) for keys in (first, second)]
    assert [row.preprocessing.mean for row in stored] == [(0.5,), (0.1,)]


def test_hints_need_the_features_of_the_teacher_once(fake_study, ledger, cut):
    seen: list[TrainJob] = []
    fake_study.runner.before = lambda job: seen.append(job) if isinstance(job, TrainJob) else None
    pipeline = fake_study.pipeline(ledger)
    for ratio in (0.25, 0.5):
        plan = replace(cut, distillation="feature", compression=replace(cut.compression, ffn_pruning_ratio=ratio))
        asyncio.run(through(pipeline, plan))
    assert fake_study.runner.runs["features"] == 1
    assert {(job.targets.method, job.targets.features_sha256 is None) for job in seen} == {("feature", False)}


def test_augmented_images_are_distilled_from_the_live_teacher_at_its_own_resolution(fake_study, ledger, cut):
    seen: list[TrainJob] = []
    fake_study.runner.before = lambda job: seen.append(job) if isinstance(job, TrainJob) else None
    sizes = {"big_vit": ImageSize.square(56), "fake_vit": ImageSize.square(28)}
    teacher = Teacher("big_vit", "hub", cut.recipe)
    pipeline = fake_study.pipeline(
        ledger, teacher=teacher, base_resolution=sizes.__getitem__, starting_digest=lambda source: source.backbone
    )
    views = replace(cut.recipe, augmentation=Augmentation(flip=0.5))
    for recipe in (cut.recipe, views):
        asyncio.run(through(pipeline, replace(cut, recipe=recipe)))
    cached, live = seen
    assert live.keeps == "best"
    assert (cached.targets.outputs_sha256 is None, cached.targets.live_teacher) == (False, None)
    assert live.targets.outputs_sha256 is None
    assert (live.targets.live_teacher.backbone, live.targets.live_teacher.resolution) == ("big_vit", sizes["big_vit"])
    assert live.targets.live_teacher.weights.startswith("stored:")
    assert fake_study.runner.runs["logits"] == 2  # the teacher's for the first plan, the base's for both


def test_another_window_is_another_block_structure_and_graph(fake_study, pipeline, plan):
    own, other = (asyncio.run(pipeline.resolve(replace(plan, window_size=window))) for window in (None, 2))
    assert other.spec.source.window_size == other.spec.resolved.window_size == 2
    assert own.keys.graph_key != other.keys.graph_key
    assert own.keys.weights_key != other.keys.weights_key
    assert other.spec.calibrations.batch_norms is not None
    assert fake_study.runner.runs["block_structure"] == 2


def test_one_file_is_measured_with_each_number_of_threads(pipeline, cut, fake_study, ledger):
    async def confirmed(threads):
        return await through(pipeline, replace(cut, deployments=(replace(cut.deployment, threads=threads),)))

    keys = [asyncio.run(confirmed(threads))[0] for threads in (1, 2)]
    assert fake_study.runner.runs["export"] == fake_study.runner.runs["train"] == 1
    assert keys[0].artifact_key == keys[1].artifact_key
    rows = [ledger.measurements(key.graph_key, "fake")[0] for key in keys]
    assert [(row.protocol, row.measurement.protocol.threads) for row in rows] == [(SCREEN.id, 1), (SCREEN.id, 2)]


def test_a_run_says_what_there_is_to_say_of_a_file_of_weights(fake_study, ledger, plan):
    class Runner(FakeRunner):
        def _answer(self, job):
            answer = super()._answer(job)
            return replace(answer, note="two states are in it") if isinstance(job, BaseJob) else answer

    class Noted(Silent):
        notes: ClassVar[list[str]] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    asyncio.run(replace(fake_study, runner=Runner(), progress=Noted()).pipeline(ledger).resolve(plan))
    assert Noted.notes == ["fake_vit: two states are in it"]
