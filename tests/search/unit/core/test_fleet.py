"""A fleet as a study stores it."""

from __future__ import annotations

from dataclasses import replace

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.fleet import Fleet, Member, stored_fleets

FLEET = Fleet({"nano": Member("id-1", "confirm-1"), "pi5": Member("id-2", "confirm-1")}, {"nano": 3.0, "pi5": 1.0})


def test_a_fleet_is_stored_and_read_under_its_id():
    assert stored_fleets({"fleets": {FLEET.device_id: FLEET.to_json()}}) == {FLEET.device_id: FLEET}
    assert stored_fleets({}) == {}


def test_another_device_makes_another_fleet_and_another_protocol_does_not():
    nano = FLEET.members["nano"]
    others = [
        replace(FLEET, members=FLEET.members | {"nano": member}) for member in (Member("id-3", "confirm-1"), nano)
    ]
    assert [fleet.device_id == FLEET.device_id for fleet in others] == [False, True]
    longer = replace(FLEET, members=FLEET.members | {"nano": replace(nano, protocol="confirm-1+soak")})
    assert longer.device_id == FLEET.device_id


def test_without_weights_the_worst_device_counts():
    metrics = {"nano": Metrics({"load_ms": Figure(8.0)}), "pi5": Metrics({"load_ms": Figure(4.0)})}
    assert FLEET.combined(metrics).value("load_ms") == 7.0
    assert replace(FLEET, weights=None).combined(metrics).value("load_ms") == 8.0
