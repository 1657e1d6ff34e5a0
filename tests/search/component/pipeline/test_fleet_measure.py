"""A graph is measured on every device of a fleet, each by its own protocol, and once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from vitsearch.devices.protocols import Phases
from vitsearch.errors import DeviceLost, StageError
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.fleet_measure import measurements_on
from vitsearch.pipeline.measure import DeviceMeasurements
from vitsearch.pipeline.progress import Silent
from vitsearch.stages import Workspace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.testing.fakes import FakeDevice, FakeRunner
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN

GRAPH = "ab" * 32
NO_PHASES = Phases()


def device(name, cores=1, basis="raw"):
    info = FakeDevice.info._replace(device_id=name, fingerprint={"cores": cores})
    return FakeDevice(name, basis=basis, info=info)


@pytest.fixture
def measuring(ledger):
    def of(*devices, phases=NO_PHASES, weights=None):
        workspace = Workspace({}, FileStore(Path()), FileStore(Path()), Path())
        context = StageContext.of(workspace, ledger, FakeRunner(), DriverId.current(), Silent())
        return measurements_on(context, devices, phases, weights)

    return of


def test_one_device_is_no_fleet(measuring):
    measurements = measuring(device("nano"))
    assert isinstance(measurements, DeviceMeasurements)
    assert measurements.fleet is None


def test_every_device_measures_a_graph_once(measuring, file):
    nano, pi5 = device("nano"), device("pi5")
    for _ in range(2):
        measurements = measuring(nano, pi5)
        asyncio.run(measurements.measure(file, measurements.protocols.screen))
    assert (nano.measured.total(), pi5.measured.total()) == (1, 1)
    assert measurements.rounds(GRAPH, measurements.protocols.screen) == 1
    assert measurements.pooled(GRAPH).metrics.value("cpu_ms_p50@pi5") == 2.0


def test_what_one_device_lacks_is_measured_there_alone(measuring, file):
    nano, pi5 = device("nano"), device("pi5")
    alone = measuring(nano)
    asyncio.run(alone.measure(file, alone.protocols.screen))
    measurements = measuring(nano, pi5)
    assert (measurements.pooled(GRAPH), measurements.rounds(GRAPH, measurements.protocols.screen)) == (None, 0)
    asyncio.run(measurements.measure(file, measurements.protocols.screen))
    assert (nano.measured.total(), pi5.measured.total()) == (1, 1)


def test_each_device_has_a_protocol_of_its_own(measuring, file):
    nano, pi5 = device("nano", cores=2), device("pi5", cores=4)
    measurements = measuring(nano, pi5, phases=Phases(throughput_s=2.0))
    asyncio.run(measurements.measure(file, measurements.protocols.confirm))
    assert [list(board.measured) for board in (nano, pi5)] == [["confirm-1+ips2x2"], ["confirm-1+ips2x4"]]
    assert {name: member.protocol for name, member in measurements.fleet.members.items()} == {
        "nano": "confirm-1+ips2x2",
        "pi5": "confirm-1+ips2x4",
    }
    assert measurements.rounds(GRAPH, measurements.protocols.confirm) == 1
    assert measurements.rounds(GRAPH, measurements.protocols.screen) == 0


def test_each_device_settles_a_graph_in_its_own_way(measuring, file):
    nano, vm = device("nano"), device("vm", basis="paired")
    measurements = measuring(nano, vm)
    asyncio.run(measurements.settle(file))
    assert nano.measured == {SCREEN.id: 1, CONFIRM.id: 1}
    assert vm.measured == {SCREEN.id: 2}
    asyncio.run(measurements.settle(file))
    assert (nano.measured.total(), vm.measured.total()) == (2, 2)


def test_throughput_is_settled_by_a_confirmation_of_today(measuring, file):
    """It has no reference, and a phase that is longer there; what was screened without it says nothing."""
    vm = device("vm", basis="paired")
    asyncio.run(measuring(vm).settle(file))
    measurements = measuring(vm, phases=Phases(throughput_s=2.0))
    assert not measurements.is_settled(GRAPH)
    asyncio.run(measurements.settle(file))
    assert vm.measured["confirm-1+ips2x1"] == 1
    assert measurements.is_settled(GRAPH)
    assert measuring(vm).is_settled(GRAPH)


def failing(name, error):
    def fail(path):
        raise error

    broken = device(name)
    broken.before = fail
    return broken


def test_a_failure_names_its_device_and_the_results_of_the_others_are_kept(measuring, file, ledger):
    measurements = measuring(failing("nano", StageError("measure", "out_of_memory", "too big")), device("pi5"))
    with pytest.raises(StageError, match=r"^measuring failed \(out_of_memory\): device nano: too big$"):
        asyncio.run(measurements.measure(file, measurements.protocols.screen))
    assert len(ledger.measurements(GRAPH, "pi5")) == 1


def test_a_lost_device_counts_more_than_a_model_that_fails(measuring, file):
    """The run ends, so the model is not told as failed."""
    devices = failing("nano", StageError("measure", "crash", "boom")), failing("pi5", DeviceLost("device pi5: gone"))
    measurements = measuring(*devices)
    with pytest.raises(DeviceLost, match="^device pi5: gone$"):
        asyncio.run(measurements.measure(file, measurements.protocols.screen))
