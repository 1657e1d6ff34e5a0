"""How long a model may take over the images of a bundle."""

import pytest

from support.bundles import manifest
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.verify.bundle import Manifest
from vitsearch_agent.verify.images import Chunk
from vitsearch_agent.verify.model_runner import in_time, outputs_protocol
from vitsearch_agent.wire.protocol import OUTPUTS


def limit_s(n, **changes):
    return outputs_protocol(Manifest.from_json(manifest(**changes)), Chunk("", slice(10, 10 + n))).timeout_s


def taking(ms):
    return {"latency_ms_p50": {"value": ms, "low": None, "high": None}}


def test_a_model_has_a_hundred_times_what_it_took_when_it_was_shipped():
    assert limit_s(4, figures=taking(1.0)) == 120.0
    assert limit_s(200, figures=taking(50.0)) == 1120.0
    assert limit_s(200, figures=taking(50.0), batch=8) == 245.0


@pytest.mark.parametrize("ms", [-1e300, 0.0, 1e300])
def test_no_figure_of_a_bundle_makes_the_limit_shorter_than_its_floor_or_longer_than_ever(ms):
    assert 120.0 <= limit_s(200, figures=taking(ms)) <= OUTPUTS.timeout_s


def test_a_model_whose_time_is_not_known_has_one_second_for_a_run():
    assert limit_s(4, figures={}) == 520.0


def test_a_model_that_exceeds_its_limit_is_told_which_in_one_sentence():
    chunk = Chunk("", slice(0, 4))
    protocol = outputs_protocol(Manifest.from_json(manifest()), chunk)
    with pytest.raises(MeasurementFailed) as caught, in_time(chunk, protocol):
        raise MeasurementFailed("timeout", "no result after 120 s", {"output": "its words"})
    assert str(caught.value) == (
        "no outputs of 4 images after 120 s; allowed are 120 s and 100 times what they take by the figures of the "
        "bundle (1000 ms a run where it has none), at most 3600 s"
    )
    assert caught.value.details["output"] == "its words"


def test_another_failure_stays_as_it_is():
    chunk = Chunk("", slice(0, 4))
    protocol = outputs_protocol(Manifest.from_json(manifest()), chunk)
    with pytest.raises(MeasurementFailed, match="^it crashed$"), in_time(chunk, protocol):
        raise MeasurementFailed("crash", "it crashed")
