"""How the figures were measured, from the measurements in the ledger."""

from __future__ import annotations

import pytest

from vitsearch.core.figures import NO_METRICS
from vitsearch.core.record import Keys
from vitsearch.report.conditions import conditions
from vitsearch.report.trials import FRONT, ShownTrial
from vitsearch.storage.ledger import ArtifactRow, MeasurementRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch.testing.fakes import fake_measurement
from vitsearch_agent.wire.measurement import Temperature
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN


@pytest.fixture
def measured(ledger):
    """Writes a measurement of a graph."""

    def write(graph, protocol, repeat=0, **changes):
        measurement = fake_measurement(1.0, protocol, device_id="device")._replace(**changes)
        row = MeasurementRow(
            graph, "s", "device", measurement.environment_id, protocol.id, repeat, measurement.to_json()
        )
        ledger.add(row, StageCost(0.0))

    return write


@pytest.fixture
def tables(ledger, plan):
    """The tables of a study with one trial, by their headings."""

    def read(attributes=None):
        keys = Keys("w", "g", "a", "device")
        trial = ShownTrial(0, plan, NO_METRICS, FRONT, "confirmed", keys=keys)
        return {table.heading: table for table in conditions([trial], ledger, attributes or {}, (), ())}

    return read


def rows(table):
    """As mappings from the name of a column."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_measurements_are_counted_by_protocol_with_their_flags(measured, tables):
    measured("g", SCREEN, 0, flags=("contended",), started_at="2026-11-27T04:00:00Z")
    measured("g", SCREEN, 1, flags=("contended", "throttled"), started_at="2026-11-27T05:00:00Z")
    measured("g", CONFIRM)
    screen, _ = sorted(rows(tables()["Measurements"]), key=lambda row: row["protocol"], reverse=True)
    assert (screen["protocol"], screen["measurements"]) == (SCREEN.id, "2")
    assert screen["flags"] == "contended 2, throttled 1"
    assert (screen["from"], screen["to"]) == ("2026-11-27T04:00:00Z", "2026-11-27T05:00:00Z")


def test_the_hottest_moment_is_named(measured, tables):
    measured("g", CONFIRM, 0, temperature=Temperature("cpu", 40.0, 50.0, 61.4))
    measured("g", CONFIRM, 1, temperature=Temperature("cpu", 40.0, 50.0, 55.0))
    assert rows(tables()["Measurements"])[0]["hottest"] == "61 °C"


def test_a_device_without_a_sensor_has_no_temperature(measured, tables):
    measured("g", CONFIRM, temperature=None)
    assert rows(tables()["Measurements"])[0]["hottest"] == "no sensor"


def test_graphs_of_other_studies_do_not_count(measured, tables):
    measured("g", SCREEN)
    measured("another", SCREEN)
    assert [row["measurements"] for row in rows(tables()["Devices"])] == ["1"]


def test_settings_that_a_protocol_does_not_have_are_empty(measured, tables):
    measured("g", SCREEN)
    measured("g", CONFIRM._replace(soak_s=300.0))
    settings = {row["setting"]: row for row in rows(tables()["Protocols"])}
    assert (settings["soak_s"][SCREEN.id], settings["soak_s"][CONFIRM.id]) == ("", "300")


def test_the_libraries_that_made_the_files_are_listed(ledger, tables):
    ledger.add(ArtifactRow("a", "model", "0" * 64, 1, "here", {}), StageCost(0.0, {"torch": "2.9"}))
    ledger.add(ArtifactRow("another", "model", "0" * 64, 1, "here", {}), StageCost(0.0, {"torch": "2.8"}))
    assert tables()["Software"].rows == (("torch", "2.9"),)


def test_a_data_set_with_many_classes_is_cut_short(tables):
    data = {"fingerprint": "abc", "class_names": [f"class {number}" for number in range(1000)], "splits": {}}
    rows = dict(tables({"data": data})["Data"].rows)
    assert rows["fingerprint"] == "abc"
    assert rows["classes"].startswith("1000: class 0, class 1, ")
    assert rows["classes"].endswith("class 19, ...")


def test_tables_without_rows_are_left_out(tables):
    assert set(tables()) == {"Devices"}
