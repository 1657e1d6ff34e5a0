import pytest

from vitsearch_agent.config import LimitsConfig
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.measure.time_limits import refuse_too_long, time_limit
from vitsearch_agent.wire.job_spec import BlobRef, JobSpec
from vitsearch_agent.wire.measure_protocol import CONFIRM, ONE_PROCESS, OUTPUTS, PEAKS, SCREEN

MODEL = (BlobRef("model.onnx", "ab" * 32, 10),)
SLOW_BOARD = CONFIRM._replace(
    throughput_s=5.0, streams=4, soak_s=600.0, power_s=600.0, idle_s=10.0, start_max_c=50.0, cooldown_max_s=300.0
)


def spec(kind="measure", protocol=SCREEN, runtime="onnxruntime"):
    return JobSpec(kind, () if kind == "peaks" else MODEL, runtime, {}, protocol)


@pytest.mark.parametrize(
    ("job", "seconds"),
    [
        (spec(), 2 * 180.0),
        (spec(protocol=SCREEN._replace(budget_s=1000.0)), 5 * 180.0),
        (spec(protocol=SCREEN._replace(budget_s=300.0)), 300.0 + 180.0),
        (spec(protocol=CONFIRM), 5 * 300.0),
        (spec(protocol=ONE_PROCESS._replace(soak_s=60.0)), 180.0 + 240.0),
        (spec(protocol=ONE_PROCESS._replace(throughput_s=5.0)), 180.0 + 185.0),
        (spec(protocol=ONE_PROCESS._replace(power_s=60.0, idle_s=10.0)), 180.0 + 260.0),
        (spec(protocol=SCREEN._replace(cooldown_max_s=100.0)), 2 * 280.0),
        (spec(protocol=ONE_PROCESS, runtime="trtexec"), 180.0 + 180.0 + 1800.0),
        (spec("outputs", OUTPUTS), 3600.0),
        (spec("peaks", PEAKS._replace(timeout_s=10.0)), 40.0),
        (spec("peaks", PEAKS._replace(timeout_s=10.0, threads=4)), 70.0),
    ],
)
def test_the_limits_of_all_processes_are_added_up(job, seconds):
    assert time_limit(job).seconds == seconds


def test_a_confirmation_with_all_phases_on_a_slow_board_fits_the_default():
    refuse_too_long(spec(protocol=SLOW_BOARD, runtime="trtexec"), LimitsConfig().job_max_s)


def test_a_job_that_asks_for_more_is_refused_with_the_keys_to_lower():
    greedy = spec(protocol=CONFIRM._replace(processes=8, timeout_s=7200.0, soak_s=7200.0))
    with pytest.raises(InvalidRequest) as caught:
        refuse_too_long(greedy, 14400.0)
    assert str(caught.value) == (
        "spec.protocol: the time limits of all processes of this job add up to 72000 s; this device allows 14400 s "
        "(limits.job_max_s in its config.json): lower processes (8), budget_s (20), timeout_s (7200), soak_s (7200)"
    )
