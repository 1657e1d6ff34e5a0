"""Whatever a bundle needs and the search did not make: the test images, a confirmation, a longer training.

Everything is looked up in the ledger first. Only what is missing, or asked for again, starts workers and the device.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from vitsearch.core.device_identity import DeviceIdentity
from vitsearch.core.metrics import split
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Keys
from vitsearch.devices.agent_device import DeviceGroup
from vitsearch.errors import StageError, StudyError
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Progress
from vitsearch.pipeline.resolved_trial import KeyedModel
from vitsearch.pipeline.shipped_quality import on_test
from vitsearch.search import finished_session
from vitsearch.search.event_loop import run_to_end
from vitsearch.search.finished_session import Workplace
from vitsearch.search.study_folders import StudyFolders
from vitsearch.ship.choice import Chosen
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.shipped import key_of
from vitsearch.storage.stores import store_of
from vitsearch.study.retargeted import Retargeted
from vitsearch.study.study import Study

ENVIRONMENTS, LONGER = "environments", "longer_trainings"
"""Attributes of a study: the devices that measured what was shipped (`measured_in`); the longer trainings."""


def measured_in(device_id: str, environment_id: str) -> str:
    """The name of a device in an environment: equal boards have equal environments."""
    return f"{device_id}:{environment_id}"


@dataclass(frozen=True)
class Opened:
    """A study to ship from. `space` has the storage at which the study was found, and the section `ship` that
    holds now. `retargeted` are the models on the target whose model is shipped; None for the study's own device."""

    study: Study
    ledger: Ledger
    space: SearchSpace
    retargeted: Retargeted | None = None

    @property
    def home(self) -> StudyFolders:
        return StudyFolders.of(self.space)

    @property
    def judged_by(self) -> str:
        """That of the study's data."""
        return self.study.judged_by

    @property
    def protocol(self) -> str:
        """The name of the confirmation protocol."""
        return str(self.study.attributes.get("protocol", "")) if self.retargeted is None else self.retargeted.protocol

    @property
    def is_emulated(self) -> bool:
        return self.study.is_emulated if self.retargeted is None else self.retargeted.kind == "emulated"


@dataclass(frozen=True)
class Final:
    """The model that is shipped for a chosen trial: the one of the search, or the one of a longer training.

    `epochs` are those of the longer training, None without one; `after` and `before` are the `metric` of it and of the
    model of the search on the validation images.
    """

    plan: Plan
    keys: Keys
    rung: int
    epochs: int | None = None
    metric: str = ""
    after: float | None = None
    before: float | None = None

    @property
    def is_longer(self) -> bool:
        """Whether the longer training gave the better model."""
        if self.after is None or self.before is None:
            return False
        return split(self.metric)[0].gain(self.after, self.before) > 0.0


def stored_final(opened: Opened, chosen: Chosen) -> Final | None:
    """What is shipped for a trial, if the ledger has everything that its bundle needs; else None."""
    final = _final(opened, chosen)
    if final is None or final.keys.artifact_key is None:
        return None
    artifact = opened.ledger.artifact(final.keys.artifact_key)
    if artifact is None or not store_of(opened.ledger).holds(artifact.sha256) or not _is_evaluated(opened, final):
        return None
    device_id = final.keys.device_id
    results = DeviceResults(opened.ledger, device_id)
    confirmed = [
        measurement for measurement in results.last(final.keys.graph_key) if measurement.protocol.id == opened.protocol
    ]
    environments = opened.study.attributes.get(ENVIRONMENTS) or {}
    return final if confirmed and measured_in(device_id, confirmed[-1].environment_id) in environments else None


def _is_evaluated(opened: Opened, final: Final) -> bool:
    """Whether the ledger and the store have what a bundle says of the test images, and those of them that it has."""
    row = opened.ledger.artifact(key_of(final.keys.artifact_key or "", opened.judged_by))
    return row is not None and all(map(store_of(opened.ledger).holds, row.files))


def _final(opened: Opened, chosen: Chosen) -> Final | None:
    """The model of the search where no longer training is asked for, else what became of that; None before it."""
    epochs = opened.space.ship.epochs
    if not epochs:
        return Final(chosen.plan, chosen.keys, chosen.rung)
    stored = (opened.study.attributes.get(LONGER) or {}).get(_longer_name(chosen, epochs))
    if stored is None:
        return None
    came = {"epochs": epochs} | {name: stored[name] for name in ("metric", "after", "before")}
    # The same weights and file wherever they are measured, with any number of threads; what was stored names the device
    # of the first bundle.
    plan = replace(Plan.from_json(stored["plan"]), deployments=chosen.plan.deployments)
    keys = replace(Keys(**stored["keys"]), device_id=chosen.keys.device_id, graph_key=chosen.keys.graph_key)
    longer = Final(plan, keys, epochs, **came)
    return longer if longer.is_longer else Final(chosen.plan, chosen.keys, chosen.rung, **came)


def _longer_name(chosen: Chosen, epochs: int) -> str:
    return f"{chosen.keys.artifact_key}:{epochs}"


def prepare(opened: Opened, chosen: Chosen, progress: Progress, again: bool) -> Final:
    """Make what is missing, with workers and the device of the study, and return what is shipped."""
    with finished_session.opened(opened.study, opened.ledger, opened.space, progress) as place:
        return run_to_end(_run(opened, chosen, place, again))


async def _run(opened: Opened, chosen: Chosen, place: Workplace, again: bool) -> Final:
    async with place.pipeline() as pipeline:
        return await make(opened, chosen, pipeline, again)


async def make(opened: Opened, chosen: Chosen, pipeline: Pipeline, again: bool) -> Final:
    """What is shipped for a trial, after every stage that its bundle needs; the device measures last, when the workers
    have stopped."""
    context, device = pipeline.context, pipeline.device
    if device.info.device_id != chosen.keys.device_id:
        raise StudyError(
            f"{chosen.name} of study {opened.study.name!r} was measured on {_measured_on(opened.study, chosen.keys)}; "
            f"here is {DeviceIdentity.of(device.info).describe(device.name)}: ship it where that device answers"
        )
    await _trained_longer(opened, chosen, pipeline)
    final = _final(opened, chosen)
    assert final is not None
    model = KeyedModel(final.plan, final.keys)
    await pipeline.restore(model, final.rung)
    if again or not _is_evaluated(opened, final):
        images = "the test images, which the search never uses" if pipeline.config.has_test else "the validation images"
        context.progress.note(f"evaluating {images}")
    await on_test(pipeline, final.plan, final.keys, again)
    pipeline.stop_workers()
    context.progress.note(f"confirming {chosen.name} on {DeviceIdentity.of(device.info).label(device.name)}")
    try:
        await pipeline.measure_to_ship(model, again or _was_elsewhere(opened, final, device))
    except StageError as error:
        raise error.about(f"{chosen.name}, {plan_text(final.plan)}") from error
    _remember(opened.study, device)
    if stored_final(opened, chosen) is None:
        raise StudyError(
            f"{chosen.name} of study {opened.study.name!r} was confirmed by another protocol than "
            f"{opened.protocol!r}; run 'vitsearch run' on its space file first"
        )
    return final


def _measured_on(study: Study, keys: Keys) -> str:
    names = (
        device.latest.describe(device.name) for device in study.devices.values() if device.device_id == keys.device_id
    )
    return next(names, "another device")


def _was_elsewhere(opened: Opened, final: Final, device: DeviceGroup) -> bool:
    """Whether a model was measured last in another environment than the one in which the device is now: what is shipped
    are the figures of the last one."""
    results = DeviceResults(opened.ledger, final.keys.device_id)
    last = results.last(final.keys.graph_key)
    return bool(last) and last[-1].environment_id != device.info.environment_id


async def _trained_longer(opened: Opened, chosen: Chosen, pipeline: Pipeline) -> None:
    """Train the plan for the epochs that `ship` asks for, once, from the start, and remember what came of it."""
    epochs, study = opened.space.ship.epochs, opened.study
    stored: dict[str, Any] = dict(study.attributes.get(LONGER) or {})
    if not epochs or _longer_name(chosen, epochs) in stored:
        return
    plan = replace(chosen.plan, recipe=replace(chosen.plan.recipe, rungs=(0, epochs)))
    trial = await pipeline.resolve(plan)
    keys, _ = await pipeline.confirm(trial, epochs)
    metric, ledger = split(opened.space.qualities[0])[0], opened.ledger
    rows = [ledger.evaluation(key or "", opened.judged_by) for key in (keys.artifact_key, chosen.keys.artifact_key)]
    after, before = (None if row is None else row.metrics.value(metric.name) for row in rows)
    if after is None or before is None:
        raise StudyError(
            f"{chosen.name} of study {study.name!r} cannot be shipped: its {metric.name} is no longer in the database; "
            "run the same command again"
        )
    outcome = {"plan": plan.to_json(), "keys": asdict(keys), "metric": metric.name, "after": after, "before": before}
    study.change(LONGER, lambda earlier: (earlier or {}) | {_longer_name(chosen, epochs): outcome})
    kept = "it is shipped" if metric.gain(after, before) > 0.0 else "the model of the search is shipped"
    pipeline.context.progress.note(
        f"trained for {epochs} epochs: {metric.name} {after:.4f} on the validation images, {before:.4f} after the "
        f"search; {kept}"
    )


def _remember(study: Study, device: DeviceGroup) -> None:
    """Store what the device is, so that its figures can be described without it: by its name in the study, as bundles
    go to others, whom the names of hosts do not concern."""
    info = device.info
    described = {
        "name": device.name,
        "kind": info.kind,
        "fingerprint": dict(info.fingerprint),
        "memory_mb": info.memory_mb,
        "power_meter": info.power_meter,
        "runtimes": sorted(runtime.name for runtime in info.runtimes if runtime.available),
    }
    where = measured_in(info.device_id, info.environment_id)
    study.change(ENVIRONMENTS, lambda earlier: (earlier or {}) | {where: described})
