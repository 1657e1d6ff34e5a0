"""What several devices have measured of a graph, as one."""

from __future__ import annotations

from vitsearch.core.fleet import Fleet, Member
from vitsearch.storage.pooled_measurements import FleetPool, pool
from vitsearch.testing.fakes import fake_measurement
from vitsearch_agent.wire.protocol import SCREEN, Contention

FLEET = Fleet({"nano": Member("1", ""), "pi5": Member("2", "")})


def test_a_graph_is_known_when_every_device_has_measured_it():
    fleet = FleetPool(FLEET)
    nano, pi5 = pool([fake_measurement(6.0)]), pool([fake_measurement(2.0)])
    assert fleet.of("g", {"nano": nano, "pi5": None}) is None
    metrics = fleet.of("g", {"nano": nano, "pi5": pi5}).metrics
    assert [metrics.value(name) for name in ("cpu_ms_p50", "cpu_ms_p50@nano", "cpu_ms_p50@pi5")] == [6.0, 6.0, 2.0]


def test_it_is_the_same_object_until_a_device_measures_again():
    fleet = FleetPool(FLEET)
    parts = {"nano": pool([fake_measurement(6.0)]), "pi5": pool([fake_measurement(2.0)])}
    first = fleet.of("g", parts)
    assert fleet.of("g", dict(parts)) is first
    assert fleet.of("g", parts | {"pi5": pool([fake_measurement(2.0)] * 2)}) is not first


def test_a_graph_is_settled_when_it_is_on_every_device():
    confirmed, screened = pool([fake_measurement(6.0)]), pool([fake_measurement(6.0, SCREEN)])
    assert FleetPool(FLEET).of("g", {"nano": confirmed, "pi5": confirmed}).is_settled
    assert not FleetPool(FLEET).of("g", {"nano": confirmed, "pi5": screened}).is_settled


def test_flags_name_their_device():
    parts = {"nano": pool([fake_measurement(6.0, flags=("throttled",))]), "pi5": pool([fake_measurement(2.0)])}
    pooled = FleetPool(FLEET).of("g", parts)
    assert (pooled.flags, pooled.basis) == (("throttled@nano",), "raw")


def test_the_device_that_waited_longest_for_a_core_says_how_long():
    parts = {
        name: pool([fake_measurement(2.0, contention=Contention(share, 1.0))])
        for name, share in (("nano", 0.2), ("pi5", None))
    }
    assert FleetPool(FLEET).of("g", parts).waited == 0.2
