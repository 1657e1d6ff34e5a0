"""The figures of trials as their measurements tell them now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.core.fleet import Fleet, Member
from vitsearch.core.record import Keys, Record
from vitsearch.storage.ledger import MeasurementRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.current_figures import CurrentFigures, devices_of
from vitsearch.testing.fakes import fake_measurement, fake_times
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN

KEYS = Keys("w" * 64, "a" * 64, None, "fake")


@pytest.fixture
def record(plan):
    return Record("confirmed", plan, keys=KEYS, metrics=Metrics.of({"accuracy": 0.9, "cpu_ms_p50": 2.0}))


def measured(ledger, ms, protocol, flags=()):
    measurement = fake_measurement(ms, protocol, cpu_ms=fake_times(ms, 0.02), flags=flags)
    where = measurement.device_id, measurement.environment_id
    ledger.add(
        MeasurementRow(KEYS.graph_key, "5" * 64, *where, protocol.id, 0, measurement.to_json()), StageCost(0.0, {})
    )


def test_measurements_after_the_trial_count(ledger, record):
    measured(ledger, 3.0, SCREEN)
    measured(ledger, 3.3, CONFIRM)
    metrics, _ = CurrentFigures(ledger).now(record)
    assert metrics.value("cpu_ms_p50") == pytest.approx((3.0 * 3.3) ** 0.5)
    assert metrics.value("accuracy") == 0.9


def test_only_flags_of_all_measurements_are_told(ledger, record):
    measured(ledger, 3.0, SCREEN, ("throttled", "noisy"))
    measured(ledger, 3.3, CONFIRM, ("throttled",))
    assert CurrentFigures(ledger).now(record)[1] == ("throttled",)


def test_what_the_ledger_does_not_know_stays_as_it_was_told(ledger, record, plan):
    current = CurrentFigures(ledger)
    assert current.now(record) == (record.metrics, ())
    assert current.now(Record("failed", plan)) == (Metrics({}), ())


def test_the_figures_of_a_fleet_are_those_of_its_devices(ledger, record):
    fleet = Fleet({"nano": Member("id of nano", ""), "pi5": Member("id of pi5", "")})
    keys = replace(KEYS, device_id=fleet.device_id)
    current = CurrentFigures(ledger, {fleet.device_id: fleet})
    assert current.pooled(keys) is None
    for name, ms in (("nano", 6.0), ("pi5", 2.0)):
        measurement = fake_measurement(ms, SCREEN, device_id=f"id of {name}")
        where = measurement.device_id, measurement.environment_id
        ledger.add(
            MeasurementRow(KEYS.graph_key, "5" * 64, *where, SCREEN.id, 0, measurement.to_json()), StageCost(0.0, {})
        )
    metrics, _ = CurrentFigures(ledger, {fleet.device_id: fleet}).now(replace(record, keys=keys))
    names = ("cpu_ms_p50", "cpu_ms_p50@nano", "cpu_ms_p50@pi5")
    assert [metrics.value(name) for name in names] == [6.0, 6.0, 2.0]
    assert devices_of(keys, {fleet.device_id: fleet}) == {"nano": "id of nano", "pi5": "id of pi5"}
    assert devices_of(KEYS, {fleet.device_id: fleet}) == {"": "fake"}
