"""The protocols and phases for the metrics of a study."""

from __future__ import annotations

import pytest

from vitsearch.core.metrics import METRICS, NEEDS
from vitsearch.core.plan import Deployment
from vitsearch.devices.protocols import MAX_STREAMS, PLAIN, Phases, Protocols, for_deployment, streams
from vitsearch.space.sections import Measure
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN, MeasureProtocol

PLAIN_METRICS = [name for name in METRICS if name not in {metric for names in NEEDS.values() for metric in names}]


@pytest.fixture
def device():
    return FakeDevice().info._replace(power_meter="ina3221", fingerprint={"affinity": [0, 1, 2, 3], "cores": 8})


def deployed(**changes):
    return Deployment("pi", "openvino", "cpu", "fp32", **changes)


def asked(metrics, device, **measure) -> Protocols:
    return Protocols.of(Phases.of(metrics, Measure.model_validate(measure)), device)


def test_metrics_of_every_measurement_need_no_phase(device):
    assert asked(PLAIN_METRICS, device) == PLAIN == Protocols(SCREEN, CONFIRM)


def test_throughput_is_in_both_protocols_with_one_stream_per_core(device):
    both = asked(["throughput_ips"], device, throughput="8s")
    assert both.screen == SCREEN._replace(id="screen-1+ips1x4", throughput_s=1.0, streams=4)
    assert both.confirm == CONFIRM._replace(id="confirm-1+ips8x4", throughput_s=8.0, streams=4)


def test_soak_is_only_in_the_confirmation(device):
    both = asked(["latency_ms_sustained_p50@nano"], device, soak="10m")
    assert both.screen == SCREEN
    assert both.confirm == CONFIRM._replace(id="confirm-1+soak600", soak_s=600.0)


@pytest.mark.parametrize("metric", ["energy_mj", "power_w"])
def test_power_phase_needs_a_meter(metric, device):
    measured = CONFIRM._replace(id="confirm-1+power30-10", power_s=30.0, idle_s=10.0)
    assert asked([metric], device).confirm == measured
    assert asked([metric], device._replace(power_meter=None)) == PLAIN


def test_cooldown_is_in_both_protocols(device):
    both = asked([], device, start_max_c=45, cooldown="2m")
    changes = {"start_max_c": 45, "cooldown_max_s": 120.0}
    assert both.screen == SCREEN._replace(id="screen-1+cool45-120", **changes)
    assert both.confirm == CONFIRM._replace(id="confirm-1+cool45-120", **changes)


@pytest.mark.parametrize(("threads", "streams"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_streams_share_the_cores_with_the_threads_of_a_deployment(threads, streams):
    measured = SCREEN._replace(throughput_s=1.0, streams=4)
    protocol = for_deployment(measured, deployed(threads=threads))
    assert protocol == measured._replace(threads=threads, streams=streams), "under the same id"


def test_a_deployment_that_names_its_streams_has_so_many():
    measured = SCREEN._replace(throughput_s=1.0, streams=4)
    assert for_deployment(measured, deployed(threads=2, streams=3)) == measured._replace(threads=2, streams=3)


def test_runs_follow_one_another_where_no_throughput_is_measured():
    assert for_deployment(SCREEN, deployed(streams=3)) == SCREEN


def test_different_protocols_have_different_ids_that_fit_the_ledger(device):
    everything = {"throughput": 3599, "soak": 7199, "power": 3599, "idle": 599, "start_max_c": -40}
    every = [*METRICS]
    ids = {asked(every, device, **{key: value}).confirm.id for key, value in everything.items()}
    assert len(ids) == len(everything)
    long = asked(every, device._replace(fingerprint={"cores": 4096}), **everything, cooldown=3599).confirm
    assert len(long.id) <= 64
    assert MeasureProtocol.from_json(long.to_json()) == long, "the agent takes it"


@pytest.mark.parametrize(
    ("fingerprint", "wanted"),
    [({"affinity": [1], "cores": 8}, 1), ({"affinity": None, "cores": 8}, 8), ({}, 1), ({"cores": 999}, MAX_STREAMS)],
)
def test_streams_are_the_cores_that_the_agent_may_use(device, fingerprint, wanted):
    assert streams(device._replace(fingerprint=fingerprint)) == wanted
