"""Files of times as trtexec's versions write them, and the window of the runs from its output."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.tools.tool_runtime import NotProvided, OutputLine, ToolOutput
from vitsearch_agent.runtimes.tools.trtexec_times import Steady, load_window, read_runs, read_steady

OF_8 = """[
  { "startEnqMs" : 200.1, "endEnqMs" : 200.2, "startH2dMs" : 200.3, "endH2dMs" : 200.5, "startComputeMs" : 200.5, \
"endComputeMs" : 202.7, "startD2hMs" : 202.7, "endD2hMs" : 202.8, "h2dMs" : 0.2, "computeMs" : 2.2041, "d2hMs" : 0.1, \
"latencyMs" : 2.5041 }
, { "startEnqMs" : 203.1, "endEnqMs" : 203.2, "startH2dMs" : 203.3, "endH2dMs" : 203.5, "startComputeMs" : 203.5, \
"endComputeMs" : 205.7, "startD2hMs" : 205.7, "endD2hMs" : 205.8, "h2dMs" : 0.2, "computeMs" : 2.2042, "d2hMs" : 0.1, \
"latencyMs" : 2.5042 }
]
"""
OF_7 = """[
  { "startInMs" : 200.3, "endInMs" : 200.5, "startComputeMs" : 200.5, "endComputeMs" : 202.7, "startOutMs" : 202.7, \
"endOutMs" : 202.8, "inMs" : 0.2, "computeMs" : 2.2041, "outMs" : 0.1, "latencyMs" : 2.5041, "endToEndMs" : 2.5 }
]
"""


def many(content, times):
    """Return a file with the first run of `content`, repeated."""
    run = json.loads(content)[0]
    return json.dumps([run] * times)


@pytest.fixture
def left(tmp_path):
    def write(content):
        (tmp_path / "times.json").write_text(content)
        return str(tmp_path / "times.json")

    return write


@pytest.mark.parametrize("content", [OF_8, OF_7], ids=["8", "7"])
def test_both_formats_give_the_same_run(content, left):
    runs = read_runs(left(many(content, 20)), 200.0, 15)
    assert len(runs) == 15
    assert runs[0] == (200.3, 200.5, 202.8, 2.5041, 2.2041)
    assert read_steady(left(many(content, 20)), 200.0) == (20, 200.3, 202.8)


def test_steady_runs_last_from_the_first_start_to_the_last_end(left):
    first, second = json.loads(OF_8)
    path = left(json.dumps([first] * 15 + [second] * 15))
    assert read_steady(path, 0.0) == (30, 200.3, 205.8)
    assert read_steady(path, 203.5) == (15, 203.3, 205.8)


def test_a_file_is_read_in_chunks(left, monkeypatch):
    monkeypatch.setattr("vitsearch_agent.runtimes.tools.trtexec_times._CHUNK", 7)
    assert len(read_runs(left(many(OF_8, 20)), 0.0, 5000)) == 20


GOOD = many(OF_8, 20)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '[{"latencyMs": 1}]', "[1]", GOOD[:-1], GOOD[:-30], GOOD.replace("2.5041", "-1"),
     GOOD.replace("2.5041", '"x"'), GOOD.replace("2.5041", "NaN"), GOOD.replace("startComputeMs", "x"),
     many(OF_8, 10)],
)  # fmt: skip
def test_an_invalid_file_is_a_protocol_failure(content, left):
    path = left(content)
    for read in (lambda: read_runs(path, 0.0, 5000), lambda: read_steady(path, 0.0)):
        with pytest.raises(MeasurementFailed) as caught:
            read()
        assert caught.value.kind == "protocol"


def test_a_missing_file_is_a_protocol_failure(tmp_path):
    with pytest.raises(MeasurementFailed, match="file of times is invalid"):
        read_steady(str(tmp_path / "times.json"), 0.0)


STEADY = Steady(1000, 200.0, 10200.0)


def output(*lines):
    return ToolOutput([OutputLine(at_s, text) for at_s, text in lines])


def test_the_window_is_certainly_load():
    lines = output(
        (99.0, "Engine loaded"), (100.0, "[I] Starting inference"), (110.3, "[I] Warmup completed 66 queries")
    )
    load = load_window(lines, STEADY)
    # The zero is between 100.0 and 100.1: the runs started by 100.3 and did not end before 110.2.
    assert load.window == pytest.approx((100.3, 110.2))
    assert load.runs == 990


@given(
    zero_s=st.floats(0.0, 0.4),
    idle_s=st.floats(0.0, 0.4),
    warm_ms=st.floats(0.0, 1e4),
    load_ms=st.floats(1e4, 1e6),
    runs=st.integers(11, 10**6),
)
def test_the_window_lies_within_the_runs_for_any_zero(zero_s, idle_s, warm_ms, load_ms, runs):
    begun_s = 5000.0
    end_ms = warm_ms + load_ms
    done_s = begun_s + zero_s + end_ms / 1e3 + idle_s
    load = load_window(
        output((begun_s, "Starting inference"), (done_s, "Warmup completed")), Steady(runs, warm_ms, end_ms)
    )
    start, end = load.window
    assert begun_s + zero_s + warm_ms / 1e3 <= start + 1e-6
    assert start < end <= begun_s + zero_s + end_ms / 1e3 + 1e-6
    assert load.runs / (end - start) == pytest.approx(runs / (load_ms / 1e3), abs=1.0 / (end - start))


def test_without_a_line_at_the_start_the_previous_line_bounds_the_window():
    load = load_window(output((100.0, "Output binding"), (110.25, "=== Performance summary ===")), STEADY)
    assert load.window == pytest.approx((100.25, 110.2))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "does not report when"),
        ([(100.0, "[I] Starting inference")], "does not report when"),
        ([(110.0, "[I] Warmup completed")], "does not report when"),
        ([(110.0, "Starting inference"), (110.1, "Warmup completed")], "output was delayed"),
        ([(100.0, "Starting inference"), (112.0, "Warmup completed")], "known to within 1.8 s"),
    ],
)
def test_output_that_does_not_bound_the_window_is_a_reason(lines, message):
    with pytest.raises(NotProvided, match=message):
        load_window(output(*lines), STEADY)
