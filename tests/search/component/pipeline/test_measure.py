"""A measurement is looked up, else made once; what other load disturbed is repeated."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from vitsearch.core.record import Keys
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.jobs import Workspace
from vitsearch.pipeline.measure import CONTENDED_REPEATS, DeviceMeasurements
from vitsearch.pipeline.progress import Silent
from vitsearch.pipeline.resolved_trial import ResolvedTrial
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger
from vitsearch.testing.fakes import FakeDevice, FakeRunner
from vitsearch_evaluators.wire.protocol import CONFIRM, SCREEN

GRAPH = "ab" * 32


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'study.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps({"cost_ms": 2.0}))
    return path


@pytest.fixture
def trial(plan) -> ResolvedTrial:
    return ResolvedTrial(plan, None, None, Keys("cd" * 32, GRAPH, None, "d" * 64))


def measuring(ledger, device, wall_clock_decides=False) -> DeviceMeasurements:
    workspace = Workspace({}, FileStore(Path()), FileStore(Path()), Path())
    context = StageContext.of(workspace, ledger, FakeRunner(), DriverId.current(), Silent())
    return DeviceMeasurements(context, device, wall_clock_decides)


def contended(device, times):
    """The device reports ``times`` measurements as disturbed; returns the repeats that it was asked for."""
    measure, asked = device.measure, []

    async def measured(artifact, deployment, protocol, repeat):
        asked.append(repeat)
        found = await measure(artifact, deployment, protocol, repeat)
        return found._replace(flags=("contended",)) if len(asked) <= times else found

    device.measure = measured
    return asked


def test_a_graph_is_measured_once(ledger, trial, file):
    device = FakeDevice()
    for _ in range(2):
        found = asyncio.run(measuring(ledger, device).measure(trial, file, SCREEN))
    assert found.result["cpu_ms"]["p50"] == 2.0
    assert device.measured == {SCREEN.id: 1}


@pytest.mark.parametrize(("decides", "asked"), [(True, [0, 1]), (False, [0])])
def test_a_disturbed_measurement_is_repeated_when_wall_time_decides(ledger, trial, file, decides, asked):
    device = FakeDevice()
    seen = contended(device, 1)
    asyncio.run(measuring(ledger, device, decides).measure(trial, file, SCREEN))
    assert seen == asked


def test_the_last_of_disturbed_measurements_is_kept_and_flagged(ledger, trial, file):
    device = FakeDevice()
    seen = contended(device, 99)
    found = asyncio.run(measuring(ledger, device, wall_clock_decides=True).measure(trial, file, SCREEN))
    assert len(seen) == CONTENDED_REPEATS + 1
    assert found.result["flags"] == ["contended"]


def test_a_flag_of_the_device_is_noted_once(ledger, trial, file, monkeypatch):
    device, notes = FakeDevice(), []
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    measure = device.measure

    async def measured(*arguments):
        return (await measure(*arguments))._replace(flags=("contended", "unverified_device"))

    device.measure = measured
    run = measuring(ledger, device)
    for repeat in range(2):
        asyncio.run(run.measure(trial, file, SCREEN, repeat))
    assert notes == ["device local: its canary drifted, so its numbers are not trusted now (flag unverified_device)"]


def test_in_another_environment_it_is_measured_again(ledger, trial, file):
    device = FakeDevice()
    asyncio.run(measuring(ledger, device).measure(trial, file, SCREEN))
    device.info = device.info._replace(environment_id="1" * 64)
    assert measuring(ledger, device).latest(GRAPH, SCREEN) is None
    asyncio.run(measuring(ledger, device).measure(trial, file, SCREEN))
    assert device.measured == {SCREEN.id: 2}


def test_a_measurement_is_repeated_once(ledger, trial, file):
    device = FakeDevice()
    both = measuring(ledger, device)
    asyncio.run(both.measure(trial, file, CONFIRM))
    assert [asyncio.run(both.measure_again(trial, file)) for _ in range(2)] == [True, False]
    assert device.measured == {CONFIRM.id: 2}
    assert both.latest(GRAPH, CONFIRM).repeat == 1
