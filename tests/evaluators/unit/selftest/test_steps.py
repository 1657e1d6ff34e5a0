"""What the steps of a selftest judge."""

import pytest

from vitsearch_agent.conditions.processor import QEMU_USER
from vitsearch_agent.selftest.report import FAILED, PASSED, SKIPPED
from vitsearch_agent.selftest.steps import agreement, judge_repeats, load_for, without_models
from vitsearch_agent.wire.device_info import RuntimeInfo
from vitsearch_agent.wire.paired import Milliseconds

ORT = RuntimeInfo("onnxruntime", True, None, "1.32.0", ("CPUExecutionProvider",))
LITERT = RuntimeInfo("litert", True, None, "2.3.0", (), ("tflite",))
COREML = RuntimeInfo("coreml", True, None, "9.0", (), ("coreml",))
NOOP = RuntimeInfo("noop", True, None, "1", (), ("any",))


@pytest.mark.parametrize(
    ("times", "spread", "holds"),
    [
        ([(10.0, 9.9, 10.1), (10.2, 10.1, 10.3)], 0.02, True),
        ([(10.0, 9.0, 11.0), (11.0, 10.5, 12.0)], 0.10, True),
        ([(10.0, 9.9, 10.1), (11.0, 10.9, 11.1)], 0.10, False),
        ([(10.0, None, None), (11.0, 9.0, 12.0)], 0.10, False),
        ([(10.0, None, None), (10.1, None, None)], 0.01, True),
    ],
)
def test_repeats_agree_within_three_percent_or_their_intervals(times, spread, holds):
    agrees = agreement([Milliseconds(*time) for time in times])
    assert agrees == (pytest.approx(spread), holds)


@pytest.mark.parametrize(
    ("second_ms", "translated_by", "outcome"),
    [(10.1, None, PASSED), (10.1, QEMU_USER, PASSED), (11.0, None, FAILED), (11.0, QEMU_USER, SKIPPED)],
)
def test_repeats_that_differ_fail_where_the_device_runs_its_own_instructions(second_ms, translated_by, outcome):
    repeats = [Milliseconds(10.0, None, None), Milliseconds(second_ms, None, None)]
    finding = judge_repeats({"small": repeats}, translated_by)
    assert finding.outcome == outcome
    assert finding.message.startswith(f"small 10.000, {second_ms:.3f} ms")


def test_the_reference_models_run_where_onnx_or_tflite_is_read():
    missing = ORT._replace(name="openvino", available=False)
    assert load_for([missing, LITERT, ORT, NOOP]) == ([LITERT, ORT], LITERT)


def test_a_runtime_that_reads_none_of_the_reference_models_is_named():
    assert without_models([ORT, LITERT, COREML, NOOP]) == [COREML]
    assert without_models([COREML._replace(available=False)]) == []


def test_without_a_runtime_that_reads_them_hashing_takes_their_place():
    assert load_for([COREML, NOOP]) == ([NOOP], NOOP)
    assert load_for([COREML]) == ([], None)
