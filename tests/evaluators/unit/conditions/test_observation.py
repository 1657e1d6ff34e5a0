import pytest

from vitsearch_agent.conditions.observation import Observation, summarize
from vitsearch_agent.wire.measurement import Temperature

CALM = Observation("latency", Temperature("cpu-thermal", 40.0, 52.0, 55.0), False, None, 0.0, False, {})


def test_an_observation_survives_json():
    seen = CALM._replace(reasons={"swap_mb": "no /proc"}, swap_mb=None)
    assert Observation.from_json(seen.to_json()) == seen


def test_a_calm_measurement_has_no_flags():
    summary = summarize([CALM, CALM])
    assert (summary.flags, dict(summary.reasons), summary.swap_mb) == ((), {}, 0.0)


def test_the_temperature_covers_the_whole_measurement():
    later = CALM._replace(temperature=Temperature("gpu-thermal", 43.0, 61.0, 66.0))
    assert summarize([CALM, later]).temperature == Temperature("gpu-thermal", 40.0, 61.0, 66.0)


def test_one_process_without_a_temperature_makes_the_temperature_none_with_the_reason():
    blind = CALM._replace(temperature=None, reasons={"temperature": "no sensor"})
    summary = summarize([CALM, blind])
    assert summary.temperature is None
    assert summary.reasons == {"temperature": "no sensor"}


@pytest.mark.parametrize(("parts", "flags"), [([0.1, 0.2], ()), ([0.5, 0.6], ("swapped",)), ([None, 9.0], ())])
def test_swap_adds_up(parts, flags):
    summary = summarize([CALM._replace(swap_mb=part) for part in parts])
    assert summary.flags == flags
    assert summary.swap_mb == (None if None in parts else pytest.approx(sum(parts)))


def test_throttling_outside_the_sustained_phase_sets_both_flags():
    summary = summarize([CALM, CALM._replace(throttled=True, throttling="oc3 by 2")])
    assert summary.flags == ("throttled", "sustained_throttling")
    assert summary.reasons["throttling"] == "latency: oc3 by 2"


def test_throttling_in_the_sustained_phase_sets_one_flag():
    summary = summarize([CALM, CALM._replace(phase="sustained", throttled=True, throttling="oc3 by 2")])
    assert summary.flags == ("throttled",)


def test_unknown_throttling_is_a_reason_without_a_flag():
    summary = summarize([CALM, CALM._replace(throttled=None, throttling="no counter")])
    assert summary.flags == ()
    assert summary.reasons == {"throttling": "no counter"}


def test_a_warm_start_sets_its_flag():
    assert summarize([CALM, CALM._replace(warm_start=True)]).flags == ("warm_start",)
