"""The last pass of a run beside another driver."""

import asyncio
from types import SimpleNamespace

import pytest

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.record import Record
from vitsearch.errors import StageError
from vitsearch.search.final_pass import FinalPass
from vitsearch.tasks import CLASSIFICATION


def test_a_model_that_another_driver_has_just_confirmed_is_re_measured_too(plan):
    records, remeasured = {}, []

    async def remeasure(model, rounds):
        remeasured.append((model.keys, rounds))
        return True

    config, context = SimpleNamespace(confirms=False), SimpleNamespace(progress=None)
    pipeline = SimpleNamespace(config=config, context=context, remeasure=remeasure)
    last = FinalPass(pipeline, lambda: records, lambda: None, str)
    records[14] = Record("confirmed", plan)
    point = SimpleNamespace(trial=14, keys="keys", plan=plan)
    assert asyncio.run(last._remeasure(point))
    assert [keys for keys, _ in remeasured] == ["keys"]


def test_a_model_that_cannot_be_measured_any_more_is_told_and_the_others_go_on(plan):
    said = []

    async def remeasure(model, rounds):
        raise StageError("measure", "timeout", "measuring failed (timeout)")

    config, context = SimpleNamespace(confirms=False), SimpleNamespace(progress=SimpleNamespace(note=said.append))
    pipeline = SimpleNamespace(config=config, context=context, remeasure=remeasure)
    last = FinalPass(pipeline, dict, lambda: None, str)
    point = SimpleNamespace(trial=None, keys="keys", plan=plan, name="trial 7")
    assert not asyncio.run(last._remeasure(point))
    (line,) = said
    assert line.startswith("trial 7 (fake_vit@28 fp32) was not measured again: ")


class Device:
    """Measures every model when it is asked to; one is not settled before the third time."""

    parallel, devices = 1, ()

    def __init__(self):
        self.remeasured = []

    async def remeasure(self, model, confirmations):
        self.remeasured.append(model.keys)
        return model.keys == "unsettled" or self.remeasured.count(model.keys) == 1


def test_what_is_not_settled_is_measured_once_more_after_all_others():
    async def nothing(plans):
        list(plans)

    said, device = [], Device()
    pipeline = SimpleNamespace(
        config=SimpleNamespace(confirms=False),
        context=SimpleNamespace(
            progress=SimpleNamespace(note=said.append, counted=lambda *counts: None, left=lambda text: None)
        ),
        prepare_subsets=nothing,
        stop_workers=lambda: None,
        last_measured=lambda keys: 0.0,
        remeasure=device.remeasure,
        waited=lambda keys: {"unsettled": 1.34, "other": None}[keys],
        device=device,
    )
    points = [
        SimpleNamespace(trial=None, keys=keys, plan=SimpleNamespace(resolution=28), name=keys)
        for keys in ("unsettled", "other")
    ]
    front = SimpleNamespace(shown=lambda: points, near=[])
    asyncio.run(FinalPass(pipeline, dict, lambda: front, lambda models: "soon").run())
    assert device.remeasured[:3] == ["unsettled", "other", "unsettled"]
    assert said == [
        "re-measured 1/2: unsettled, which waited for a core 134% of its CPU time  [soon]",
        "re-measured 2/2: other",
        "re-measured again 1/2: unsettled, which waited for a core 134% of its CPU time",
    ], "'on an idle machine' stood here at any load"


def test_a_count_goes_to_its_end_when_a_model_leaves_the_front_meanwhile():
    """Retargeting counted 1/4, 2/3, 3/3."""

    async def remeasure(model, confirmations):
        near[:] = [point for point in near if point.name != "third"]
        return True

    async def nothing(plans):
        list(plans)

    said, counts = [], []
    pipeline = SimpleNamespace(
        config=SimpleNamespace(confirms=False),
        context=SimpleNamespace(
            progress=SimpleNamespace(
                note=said.append,
                counted=lambda what, done, wanted: counts.append((done, wanted)),
                left=lambda text: None,
            )
        ),
        prepare_subsets=nothing,
        stop_workers=lambda: None,
        last_measured=lambda keys: 0.0,
        remeasure=remeasure,
        waited=lambda keys: None,
        device=SimpleNamespace(parallel=1, devices=()),
    )
    near = [
        SimpleNamespace(trial=None, keys=name, plan=SimpleNamespace(resolution=28), name=name)
        for name in ("first", "second", "third")
    ]
    asyncio.run(FinalPass(pipeline, dict, lambda: SimpleNamespace(shown=list, near=near), lambda models: "soon").run())
    assert [line.partition(" ")[2].partition(":")[0] for line in said[:3]] == ["1/3", "2/3", "3/3"]
    assert said[1] == "re-measured 2/3: 1 no longer near the front"
    assert counts == [(0, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure(0.91234), "has accuracy 0.9123 on 40 images on the device"),
        (Figure(None, reason="all pixels are ignored"), "has no accuracy on the device: all pixels are ignored"),
    ],
)
def test_a_metric_without_a_value_on_the_device_is_told_with_its_reason(plan, figure, shown):
    said = []

    async def accuracy_on_device(device, model):
        return SimpleNamespace(metrics=Metrics({"accuracy": figure}), n=40)

    pipeline = SimpleNamespace(
        config=SimpleNamespace(task=CLASSIFICATION),
        context=SimpleNamespace(progress=SimpleNamespace(note=said.append)),
        accuracy_on_device=accuracy_on_device,
        fleet=None,
    )
    point = SimpleNamespace(keys="keys", plan=plan, name="trial 7")
    asyncio.run(FinalPass(pipeline, dict, lambda: None, str)._evaluate_on("local", point))
    assert said == [f"trial 7 {shown}"]
