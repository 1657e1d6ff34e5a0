"""The runtime of benchmark_model. The outputs are those that several versions printed on other people's machines."""

import os
import shutil
import subprocess
import time

import pytest

from support import AGENT_HOME
from support.artifact_files import tflite
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.base import RuntimeContext
from vitsearch_agent.runtimes.tools import benchmark_model
from vitsearch_agent.runtimes.tools.benchmark_model import BenchmarkModelRuntime
from vitsearch_agent.runtimes.tools.benchmark_model_output import load_window, parse
from vitsearch_agent.runtimes.tools.tool_runtime import LoadWindow, NotProvided, OutputLine, ToolOutput
from vitsearch_agent.testing import RuntimeTestCase
from vitsearch_agent.wire.protocol import SCREEN

OF_2020 = """STARTING!
Initialized session in 0.855ms.
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930

count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4
Peak memory footprint (MB): init=0 overall=12.8672
"""
OF_2024 = """INFO: Initialized session in 87.639ms.
INFO: count=5 first=106436 curr=105929 min=105929 max=106436 avg=106065 std=193 p5=105929 median=105948 p95=106436

INFO: count=50 first=106022 curr=105780 min=105416 max=106528 avg=105784 std=260 p5=105485 median=105718 p95=106281

INFO: Inference timings in us: Init: 87639, First inference: 106436, Warmup (avg): 106065, Inference (avg): 105784
INFO: Memory footprint delta from the start of the tool (MB): init=14.4414 overall=14.8164
"""
SLOW = """count=1 curr=3512391

count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
"""
ON_ANDROID = (
    "07-08 15:34:26.201 I/tflite  ( 5395): count=10 first=2653894 curr=2709263 min=2640862 max=3025403 "
    "avg=2.71985e+06 std=105101 p5=2640862 median=2709263 p95=3025403\n"
)
ALL_SAME = "count=5 curr=105(all same)\n"


@pytest.mark.parametrize(
    ("text", "runs", "middle_ms", "is_median", "load_ms", "first_ms", "memory_mb"),
    [
        (OF_2020, 50, 33.2094, False, 0.855, 49.06, 12.8672 * 1.048576),
        (OF_2024, 50, 105.718, True, 87.639, 106.436, 14.8164 * 1.048576),
        (SLOW, 50, 2950.34, False, 17.187, 3512.391, None),
        (ON_ANDROID, 10, 2709.263, True, None, None, None),
        (ALL_SAME, 5, 0.105, True, None, None, None),
    ],
)
def test_outputs_of_several_versions_are_parsed(text, runs, middle_ms, is_median, load_ms, first_ms, memory_mb):
    report = parse(text)
    assert (report.runs, report.is_median) == (runs, is_median)
    assert report.middle_ms == pytest.approx(middle_ms)
    for value, expected in ((report.load_ms, load_ms), (report.first_ms, first_ms), (report.memory_mb, memory_mb)):
        assert value == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("text", ["", "count=0", "count=0 curr=5", "count=3 first=1 min=1", "count=3 avg=nan", "avg=5"])
def test_output_without_times_is_a_protocol_failure(text):
    with pytest.raises(MeasurementFailed, match="reported no times"):
        parse(text)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A program that prints the output of a version of 2024 and records its arguments."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output.txt").write_text(OF_2024)
    path = tmp_path / "benchmark_model"
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls.txt\ncat {tmp_path}/output.txt\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def runtime(tool):
    tool_runtime = BenchmarkModelRuntime()
    tool_runtime.context = RuntimeContext(tool)
    return tool_runtime


@pytest.fixture
def model(tiny_tflite):
    return tiny_tflite


class TestBenchmarkModel(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _parts(self, runtime, model):
        self.make_runtime = lambda: runtime
        self.make_model = lambda folder: shutil.copy(model, os.path.join(folder, "model.tflite"))

    def make_options(self):
        return {"delegate": "none"}


def test_every_start_is_a_sample_and_sets_every_relevant_flag(runtime, model, tmp_path):
    times = runtime.measure(model, {"delegate": "xnnpack"}, SCREEN._replace(threads=4, min_s=2.2, max_s=55.0))
    assert times.wall_ms == [pytest.approx(105.718)] * 11
    assert times.reasons["latency_ms"] == "11 samples, each the median of 50 to 50 runs of a fresh process"
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    assert len(calls) == 11
    assert f"--graph={model} --num_threads=4 --num_runs=3 --min_secs=0.2 --max_secs=5" in calls[0]
    assert "--warmup_runs=20 --warmup_min_secs=0.1" in calls[0]
    assert "--use_xnnpack=true" in calls[1]


def test_a_delegate_has_its_flag_and_must_have_been_applied(runtime, model, tmp_path):
    with pytest.raises(MeasurementFailed, match="benchmark_model did not apply the GPU delegate"):
        runtime.measure(model, {"delegate": "gpu"}, SCREEN)
    applied = "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by it.\n"
    (tmp_path / "output.txt").write_text(applied + OF_2024)
    assert len(runtime.measure(model, {"delegate": "gpu"}, SCREEN).wall_ms) == 11
    assert "--use_xnnpack=false --use_gpu=true" in (tmp_path / "calls.txt").read_text()


@pytest.fixture
def written(tmp_path):
    """written(name, shape, signature) -> path of a TFLite file with that input."""

    def write(*image):
        path = tmp_path / "image.tflite"
        path.write_bytes(tflite(image=image))
        return str(path)

    return write


def test_another_batch_is_refused(runtime, written):
    path = written("image", [1, 8], None)
    with pytest.raises(MeasurementFailed, match="the model fixes batch 1 .*, but batch 4 was requested"):
        runtime.measure(path, {"delegate": "none"}, SCREEN._replace(batch=4))


def test_open_dimensions_get_the_shapes_of_the_job(runtime, written, tmp_path):
    path, protocol = written("image:0", [1, 1, 3], [-1, -1, 3]), SCREEN._replace(shapes={"image:0": (1, 8, 3)})
    with pytest.raises(MeasurementFailed, match="give, for example, --shape image:0=1,224,3"):
        runtime.measure(path, {"delegate": "none"}, SCREEN)
    runtime.measure(path, {"delegate": "none"}, protocol)
    assert "--input_layer=image:0 --input_layer_shape=1,8,3" in (tmp_path / "calls.txt").read_text()
    assert runtime.sizes(path, protocol) == (1, {"image:0": (1, 8, 3)})


def test_a_model_without_open_dimensions_runs_its_own_shapes(runtime, written, tmp_path):
    path = written("image", [2, 8], None)
    runtime.measure(path, {"delegate": "none"}, SCREEN)
    assert "--input_layer" not in (tmp_path / "calls.txt").read_text()
    assert runtime.sizes(path, SCREEN) == (2, {"image": (2, 8)})


def test_a_name_that_the_program_would_split_is_refused(runtime, written):
    path = written("a,b", [1, 8], [-1, 8])
    with pytest.raises(MeasurementFailed, match="benchmark_model takes no shapes for names with a comma: 'a,b'"):
        runtime.measure(path, {"delegate": "none"}, SCREEN)


def test_the_error_line_of_a_failed_program_is_the_message(runtime, tool, model):
    with open(tool, "w") as stream:
        stream.write("#!/bin/sh\necho 'STARTING!'\necho 'ERROR: Didn'\\''t find op for builtin opcode'\nexit 1\n")
    with pytest.raises(MeasurementFailed, match="ended with 1: ERROR: Didn't find op") as caught:
        runtime.measure(model, {"delegate": "none"}, SCREEN)
    assert caught.value.kind == "incompatible_artifact"


DELEGATE = {"delegate": "none"}
TIMED = "INFO: count=10 first=40100 curr=39900 min=39900 max=40200 avg=40000 std=90 p5=39900 median=40000 p95=40200\n"


@pytest.fixture
def slow_tool(tool, tmp_path):
    """A program whose timed runs take as long as it reports, with time before and after them."""

    def install():
        script = f"""#!/bin/sh
echo "$@" >> {tmp_path}/calls.txt
echo 'INFO: Initialized session in 0.855ms.'
sleep 0.1
echo 'INFO: count=5 first=41000 curr=40000 min=40000 max=41000 avg=40200 std=1'
echo 'INFO: Running benchmark for at least 1 iterations'
sleep 0.8
echo '{TIMED.strip()}'
sleep 0.1
"""
        with open(tool, "w") as stream:
            stream.write(script)
        return (tmp_path / "calls.txt").read_text

    return install


def test_the_window_lies_between_the_lines_around_the_timed_runs(slow_tool, runtime, model):
    calls = slow_tool()
    before = time.monotonic()
    load = runtime.power_load(model, DELEGATE, SCREEN._replace(power_s=0.4))
    after = time.monotonic()
    assert before + 0.1 <= load.window[0]
    assert before + 0.1 + 0.8 <= load.window[1] <= after
    assert load.runs == 10
    assert "--num_runs=1 --min_secs=0.4 --max_secs=10000 --warmup_runs=20 --warmup_min_secs=0.1" in calls()


def test_each_stream_is_a_process_with_its_own_name_for_the_model(slow_tool, runtime, model, monkeypatch):
    monkeypatch.setattr(benchmark_model, "_LEAST_TOGETHER", 0.0)  # on a busy machine they do not start at once
    calls = slow_tool()
    count = runtime.throughput(model, DELEGATE, SCREEN._replace(throughput_s=0.4, streams=3, threads=2))
    assert count.runs == 30
    assert 0 < count.runs_per_s <= 3 * 10 / 0.4
    graphs = sorted(line.split()[0] for line in calls().splitlines())
    folder = os.path.dirname(model)
    assert graphs == [f"--graph={folder}/{name}" for name in ("1-model.tflite", "2-model.tflite", "model.tflite")]
    assert all("--num_threads=2" in line for line in calls().splitlines())


def test_a_soak_is_a_separate_start_before_the_eleven(runtime, model, tmp_path):
    times = runtime.sustained(model, DELEGATE, SCREEN._replace(soak_s=600.0))
    assert len(times.wall_ms) == 11
    assert times.reasons["latency_ms"].endswith("of a fresh process, after 600 s of load")
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    assert len(calls) == 12
    assert "--num_runs=1 --min_secs=0 --max_secs=10000 --warmup_runs=1 --warmup_min_secs=600" in calls[0]
    assert "--warmup_runs=20" in calls[1]


def output(*lines):
    return ToolOutput([OutputLine(at_s, text) for at_s, text in lines])


FIRST = "count=1 curr=41000\n"


def test_the_output_of_an_old_version_bounds_the_window():
    load = load_window(
        output((4.0, "STARTING!"), (5.0, FIRST), (5.5, TIMED), (5.6, "Inference timings in us: Init: 855"))
    )
    assert load == ((5.0, 5.5), 10)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([(5.5, TIMED)], "does not report when its warm-up ended"),
        ([(5.4, FIRST), (5.5, TIMED)], "ran for 0.4 s, but its lines arrived 0.1 s apart"),
        ([(5.5, FIRST), (5.5, TIMED)], "output was delayed"),
        ([(5.5, "count=1 curr=0"), (5.5, "count=3 curr=0")], "output was delayed"),
    ],
)
def test_lines_that_do_not_bound_the_window_are_a_reason(lines, text):
    with pytest.raises(NotProvided, match=text):
        load_window(output(*lines))


def test_streams_that_did_not_run_together_are_a_reason(runtime, model, monkeypatch):
    times = iter([((0.0, 1.0), 10), ((0.5, 1.5), 10)])
    monkeypatch.setattr(
        "vitsearch_agent.runtimes.tools.benchmark_model.load_window", lambda _: LoadWindow(*next(times))
    )
    with pytest.raises(NotProvided, match="2 processes of benchmark_model ran together for only 33% of the time"):
        runtime.throughput(model, DELEGATE, SCREEN._replace(throughput_s=0.4, streams=2))


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """The script with an `adb` whose phone divides the words of `adb shell` again, as a phone does, and runs nothing.
    Returns the runtime, and the file with a line for each word."""
    (tmp_path / "out.txt").write_text(OF_2024)
    (tmp_path / "identity.txt").write_text("R5CT30ABCDE\nsamsung/build:14\n0f1e  /data/local/tmp/benchmark_model\n")
    adb, calls = tmp_path / "bin" / "adb", tmp_path / "adb.txt"
    adb.parent.mkdir()
    adb.write_text(
        f"""#!/bin/sh
if [ "$1" != shell ]; then printf '%s\\n' "$@" >> {calls}; exit; fi
case "$*" in
    *getprop*) cat {tmp_path}/identity.txt ;;
    *) shift; sh -c "printf '%s\\\\n' shell $*" >> {calls}; cat {tmp_path}/out.txt ;;
esac
"""
    )
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(adb.parent), os.environ["PATH"]]))
    runtime = BenchmarkModelRuntime()
    runtime.context = RuntimeContext(os.path.join(AGENT_HOME, "adb-benchmark-model"))
    return runtime, calls


def test_the_adb_script_runs_the_program_on_a_phone(phone, model):
    runtime, calls = phone
    assert runtime.measure(model, {"delegate": "none"}, SCREEN).wall_ms[0] == pytest.approx(105.718)
    folder = "/data/local/tmp/vitsearch"
    words = calls.read_text().splitlines()
    assert words[:4] == ["shell", "mkdir", "-p", folder]
    assert words[4:7] == ["push", model, f"{folder}/model.tflite"]
    assert words[7:11] == ["shell", f"{folder}/benchmark_model", f"--graph={folder}/model.tflite", "--num_threads=1"]


def test_names_in_a_model_reach_the_phone_as_one_word(phone, model):
    runtime, calls = phone
    hostile = "--input_layer=x;reboot;$(id) 'y'"
    subprocess.run([runtime.program, f"--graph={model}", hostile], check=True, stdout=subprocess.DEVNULL)
    assert calls.read_text().splitlines()[-1] == hostile


def test_another_phone_is_another_version(phone, tmp_path):
    runtime, _ = phone
    before = runtime.available().version
    assert runtime.available().version == before
    (tmp_path / "identity.txt").write_text("another\n")
    assert runtime.available().version != before


def test_a_phone_that_does_not_answer_is_the_reason(phone, tmp_path):
    runtime, _ = phone
    (tmp_path / "identity.txt").unlink()
    available = runtime.available()
    assert not available.available
    assert available.reason.startswith("no phone answers: ")
