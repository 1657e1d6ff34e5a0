"""A measurement is looked up, else made once; what other load disturbed is repeated; all of a graph are pooled."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from vitsearch.core.policy import POLICY
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.measure import DeviceMeasurements, rounds_of
from vitsearch.pipeline.progress import Silent
from vitsearch.stages import Workspace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.testing.fakes import FakeDevice, FakeRunner
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN

GRAPH = "ab" * 32


def measuring(ledger, device) -> DeviceMeasurements:
    workspace = Workspace({}, FileStore(Path()), FileStore(Path()), Path())
    context = StageContext.of(workspace, ledger, FakeRunner(), DriverId.current(), Silent())
    return DeviceMeasurements(context, device)


def contended(device, times):
    """The device reports `times` measurements as disturbed; returns the repeats that it was asked for."""
    measure, repeats = device.measure, []

    async def measured(artifact, deployment, protocol, repeat):
        repeats.append(repeat)
        measurement = await measure(artifact, deployment, protocol, repeat)
        return measurement._replace(flags=("contended",)) if len(repeats) <= times else measurement

    device.measure = measured
    return repeats


def flags_of(ledger, protocol=SCREEN):
    return {row.repeat: row.result["flags"] for row in ledger.measurements(GRAPH, "fake", protocol.id)}


def test_a_graph_is_measured_once(ledger, file):
    device = FakeDevice()
    for _ in range(2):
        run = measuring(ledger, device)
        asyncio.run(run.measure(file, SCREEN))
    assert run.pooled(GRAPH).metrics.value("cpu_ms_p50") == 2.0
    assert device.measured == {SCREEN.id: 1}


def test_a_disturbed_confirmation_is_repeated_and_both_are_kept(ledger, file):
    device = FakeDevice()
    repeats = contended(device, 1)
    run = measuring(ledger, device)
    asyncio.run(run.measure(file, CONFIRM))
    assert repeats == [0, 1]
    assert flags_of(ledger, CONFIRM) == {0: ["contended"], 1: []}
    assert run.pooled(GRAPH).flags == ()
    assert run.rounds(GRAPH, CONFIRM) == 1


def test_a_disturbed_attempt_counts_for_nobody_before_the_next_has_ended(ledger, file):
    device, seen = FakeDevice(), []
    contended(device, 1)
    measure = device.measure

    async def looking(*arguments):
        seen.append(ledger.repeats(GRAPH, "fake", CONFIRM.id))
        return await measure(*arguments)

    device.measure = looking
    asyncio.run(measuring(ledger, device).measure(file, CONFIRM))
    assert seen == [[], []]


def test_a_disturbed_screening_measurement_is_not_repeated(ledger, file):
    device = FakeDevice()
    repeats = contended(device, 1)
    asyncio.run(measuring(ledger, device).measure(file, SCREEN))
    assert repeats == [0]
    assert flags_of(ledger) == {0: ["contended"]}


def test_disturbed_attempts_count_as_one_round(ledger, file):
    device = FakeDevice()
    contended(device, 1)
    asyncio.run(measuring(ledger, device).measure(file, CONFIRM))
    assert rounds_of(ledger.repeats(GRAPH, "fake", CONFIRM.id)) == 1
    assert rounds_of([]) == 0


def test_a_confirmation_that_stays_disturbed_is_flagged(ledger, file):
    device = FakeDevice()
    repeats = contended(device, 99)
    run = measuring(ledger, device)
    asyncio.run(run.measure(file, CONFIRM))
    assert len(repeats) == POLICY.measuring.attempts
    assert run.pooled(GRAPH).flags == ("contended",)


def test_a_flag_of_the_device_is_noted_once(ledger, file, monkeypatch):
    device, notes = FakeDevice(), []
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    measure = device.measure

    async def measured(*arguments):
        return (await measure(*arguments))._replace(flags=("contended", "unverified_device"))

    device.measure = measured
    asyncio.run(measuring(ledger, device).measure(file, SCREEN, rounds=2))
    assert notes == ["device local: its canary drifted, so its numbers are not trusted now (flag unverified_device)"]


def test_in_another_environment_it_is_measured_again(ledger, file):
    device = FakeDevice()
    asyncio.run(measuring(ledger, device).measure(file, SCREEN))
    device.info = device.info._replace(environment_id="1" * 64)
    assert measuring(ledger, device).pooled(GRAPH) is None
    asyncio.run(measuring(ledger, device).measure(file, SCREEN))
    assert device.measured == {SCREEN.id: 2}


def test_a_second_round_measures_once_more_and_pools_both(ledger, file):
    device = FakeDevice()
    run = measuring(ledger, device)
    asyncio.run(run.measure(file, CONFIRM))
    file.find().write_text(json.dumps({"cost_ms": 2.2}))
    for _ in range(2):
        asyncio.run(run.measure(file, CONFIRM, rounds=2))
    assert device.measured == {CONFIRM.id: 2}
    assert run.rounds(GRAPH, CONFIRM) == 2
    assert run.pooled(GRAPH).metrics.value("cpu_ms_p50") == pytest.approx((2.0 * 2.2) ** 0.5)


def test_what_another_driver_measured_meanwhile_is_pooled_too(ledger, file):
    mine, other = measuring(ledger, FakeDevice()), measuring(ledger, FakeDevice())
    asyncio.run(mine.measure(file, SCREEN))
    assert mine.pooled(GRAPH).metrics.value("cpu_ms_p50") == 2.0
    file.find().write_text(json.dumps({"cost_ms": 2.2}))
    asyncio.run(other.measure(file, CONFIRM))
    asyncio.run(mine.measure(file, CONFIRM))
    assert mine.pooled(GRAPH).metrics.value("cpu_ms_p50") == pytest.approx((2.0 * 2.2) ** 0.5)


def test_screening_and_confirmation_of_a_graph_have_one_value(ledger, file):
    run = measuring(ledger, FakeDevice())
    asyncio.run(run.measure(file, SCREEN))
    file.find().write_text(json.dumps({"cost_ms": 3.0}))
    asyncio.run(run.measure(file, CONFIRM))
    low, high = run.pooled(GRAPH).metrics.intervals["cpu_ms_p50"]
    assert low < 2.0 < 3.0 < high, "they disagree, so the interval holds both"


def test_a_file_of_the_same_structure_is_not_measured_again(ledger, file):
    device = FakeDevice()
    repeats = contended(device, 1)
    measurements, same = measuring(ledger, device), replace(file, structure="1" * 64)
    other = replace(same, graph="ef" * 32)
    asyncio.run(measurements.measure(same, CONFIRM))
    asyncio.run(measurements.measure(other, CONFIRM))
    assert repeats == [0, 1]  # the first was disturbed
    assert measurements.pooled(other.graph).metrics == measurements.pooled(GRAPH).metrics
    asyncio.run(measurements.measure(other, CONFIRM, 2))  # a second round is measured for one of them
    asyncio.run(measurements.measure(same, CONFIRM, 2))
    assert repeats == [0, 1, 2]
    assert measurements.rounds(GRAPH, CONFIRM) == 2


@pytest.mark.parametrize("structure", [None, "2" * 64])
def test_files_of_other_or_unknown_structures_are_measured(ledger, file, structure):
    device = FakeDevice()
    repeats = contended(device, 0)
    measurements, other = measuring(ledger, device), replace(file, graph="ef" * 32, structure=structure)
    asyncio.run(measurements.measure(replace(file, structure=structure and "1" * 64), SCREEN))
    asyncio.run(measurements.measure(other, SCREEN))
    assert repeats == [0, 0]


def test_another_environment_is_measured_although_the_structure_is_known(ledger, file):
    device, updated = FakeDevice(), FakeDevice()
    updated.info = updated.info._replace(environment_id="9" * 64)
    same = replace(file, structure="1" * 64)
    other = replace(same, graph="ef" * 32)
    asyncio.run(measuring(ledger, device).measure(same, SCREEN))
    repeats = contended(updated, 0)
    asyncio.run(measuring(ledger, updated).measure(other, SCREEN))
    assert repeats == [0]


def test_a_measurement_of_an_equal_file_with_other_threads_does_not_count(ledger, file):
    device = FakeDevice()
    run = measuring(ledger, device)
    of_structure = replace(file, structure="the same")
    for graph, threads in ((GRAPH, 1), ("cd" * 32, 2), ("ef" * 32, 2)):
        deployment = replace(file.deployment, threads=threads)
        asyncio.run(run.measure(replace(of_structure, graph=graph, deployment=deployment), SCREEN))
    assert device.measured == {SCREEN.id: 2}, "the third has the file and the threads of the second"
