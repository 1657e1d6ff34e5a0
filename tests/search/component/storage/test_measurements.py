"""The measurements of a device, by the reference times that are known now."""

from __future__ import annotations

import pytest

from vitsearch.storage.ledger import MeasurementRow
from vitsearch.storage.measurements import DeviceResults
from vitsearch.storage.stage_cost import StageCost
from vitsearch.testing.fakes import fake_measurement, fake_times
from vitsearch_agent.wire.paired import Paired, Ratio, ReferenceTimes
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN

GRAPH, OTHER = "a" * 64, "b" * 64
TIMES = ReferenceTimes(2.0, 0.1, 2.0, 0.1, 5, True)
HERE = "0" * 64


@pytest.fixture
def store(ledger):
    """Writes a measurement to the ledger, and notes it in the results of a run as the run does."""

    def add(measurement, graph=GRAPH, repeat=0, results=None):
        protocol, where = measurement.protocol.id, (measurement.device_id, measurement.environment_id)
        row = MeasurementRow(graph, "5" * 64, *where, protocol, repeat, measurement.to_json())
        ledger.add(row, StageCost(0.0, {}))
        if results is not None:
            results.adopt_times(measurement)
            results.reload(graph)

    return add


def paired(ratio, times=TIMES, started_at="2026-01-01T00:00:00Z"):
    beside = Paired("0" * 64, Ratio(ratio, 0.5, 0.0, 0.02, 20.0), None, times)
    return fake_measurement(9.0, basis="paired", paired=beside, started_at=started_at)


def cpu_ms(results, graph=GRAPH):
    return results.pooled(graph).metrics.value("cpu_ms_p50")


def test_a_graph_that_was_never_measured_has_nothing(ledger):
    assert DeviceResults(ledger, "fake").pooled(GRAPH) is None


def test_screening_and_confirmation_of_a_graph_are_one_value(ledger, store):
    store(fake_measurement(2.0, SCREEN, cpu_ms=fake_times(2.0, 0.02)))
    store(fake_measurement(2.2, CONFIRM, cpu_ms=fake_times(2.2, 0.02)))
    assert cpu_ms(DeviceResults(ledger, "fake")) == pytest.approx((2.0 * 2.2) ** 0.5)


def test_a_measurement_of_this_run_is_seen_at_once(ledger, store):
    store(fake_measurement(2.0))
    results = DeviceResults(ledger, "fake")
    assert cpu_ms(results) == 2.0
    store(fake_measurement(4.0), repeat=1, results=results)
    assert cpu_ms(results) == pytest.approx((2.0 * 4.0) ** 0.5)
    assert cpu_ms(DeviceResults(ledger, "fake")) == pytest.approx(cpu_ms(results)), "and by the next run"


def test_new_reference_times_move_every_graph_and_are_kept(ledger, store):
    results = DeviceResults(ledger, "fake")
    store(paired(4.0), results=results)
    before = cpu_ms(results)
    faster = TIMES._replace(products_cpu_ms=1.62)
    store(paired(5.0, faster), OTHER, results=results)
    assert cpu_ms(results) == pytest.approx(0.9 * before)
    assert cpu_ms(DeviceResults(ledger, "fake")) == pytest.approx(0.9 * before)


def test_another_number_of_processes_behind_the_same_reference_times_writes_nothing(ledger, store, monkeypatch):
    results = DeviceResults(ledger, "fake")
    store(paired(4.0), results=results)
    monkeypatch.setattr(ledger, "set_reference_times", lambda *_: pytest.fail("nothing has moved"))
    store(paired(5.0, TIMES._replace(processes=6)), OTHER, results=results)


STABLE = TIMES._replace(products_cpu_ms=1.62, processes=200, provisional=False)


def test_the_result_of_an_earlier_job_moves_nothing(ledger, store):
    """A new study may ask for what the agent has measured long ago, by the reference times of that day."""
    results = DeviceResults(ledger, "fake")
    store(paired(4.0, STABLE, "2026-02-01T00:00:00Z"), results=results)
    before = cpu_ms(results)
    for graph, driver in ((OTHER, results), ("c" * 64, DeviceResults(ledger, "fake"))):
        store(paired(5.0, STABLE._replace(products_cpu_ms=2.4)), graph, results=driver)
        assert cpu_ms(driver) == before
    assert cpu_ms(DeviceResults(ledger, "fake")) == before


def test_reference_times_that_an_agent_has_just_begun_to_learn_replace_none_of_more_processes(ledger, store):
    results = DeviceResults(ledger, "fake")
    store(paired(4.0, STABLE), results=results)
    before = cpu_ms(results)
    begun = STABLE._replace(products_cpu_ms=2.0, processes=2, provisional=True)
    store(paired(5.0, begun, "2026-02-01T00:00:00Z"), OTHER, results=results)
    assert cpu_ms(results) == before
    known = begun._replace(processes=40, provisional=False)
    store(paired(5.0, known, "2026-02-02T00:00:00Z"), OTHER, repeat=1, results=results)
    assert cpu_ms(results) == pytest.approx((2.0 / 1.62) ** 0.5 * before), "it has learned them"


def test_reference_times_of_another_driver_count_for_this_one(ledger, store):
    results = DeviceResults(ledger, "fake")
    store(paired(4.0), results=results)
    store(paired(5.0, STABLE, "2026-03-01T00:00:00Z"), OTHER, results=DeviceResults(ledger, "fake"))
    store(paired(6.0, started_at="2026-02-01T00:00:00Z"), "c" * 64, results=results)
    assert cpu_ms(results) == cpu_ms(DeviceResults(ledger, "fake"))


def test_a_device_whose_clock_was_ahead_is_believed_again(ledger, store):
    results = DeviceResults(ledger, "fake")
    store(paired(4.0, started_at="2999-01-01T00:00:00Z"), results=results)
    before = cpu_ms(results)
    store(paired(5.0, STABLE, "2998-01-01T00:00:00Z"), OTHER, results=results)
    assert cpu_ms(results) == pytest.approx(0.9 * before)


def test_raw_times_do_not_move(ledger, store):
    results = DeviceResults(ledger, "fake")
    store(fake_measurement(2.0), results=results)
    store(paired(5.0), OTHER, results=results)
    assert cpu_ms(results) == 2.0


def test_each_environment_is_apart(ledger, store):
    store(fake_measurement(2.0))
    store(fake_measurement(3.0, environment_id="1" * 64), repeat=1)
    results = DeviceResults(ledger, "fake")
    assert results.pooled(GRAPH, HERE).metrics.value("cpu_ms_p50") == 2.0
    assert cpu_ms(results) == pytest.approx(3.0), "the environment of the last measurement"
