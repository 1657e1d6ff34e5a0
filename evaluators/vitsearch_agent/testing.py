"""Conformance tests for runtimes and power meters.

Use them in the tests of your package:

    class TestMyRuntime(RuntimeTestCase):
        def make_runtime(self): return MyRuntime()
        def make_model(self, folder): ...write a small model and return its path...

    class TestMyMeter(PowerMeterTestCase):
        def make_meter(self): return MyMeter(System(root=...a tree in which the meter is found...))
        def make_missing_meter(self): return MyMeter(System(root=...an empty folder...))
"""

import contextlib
import math
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Optional, Tuple

from vitsearch_agent import artifacts
from vitsearch_agent.base import plugins, processes
from vitsearch_agent.base.canonical_json import canonical_json
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure.child_process import StopSignal, child_environment, run_child
from vitsearch_agent.measure.warm_parents import ParentKey, WarmParents
from vitsearch_agent.power.base import SCOPES, PowerMeter, Sample
from vitsearch_agent.runtime_facts import FORMATS, RUNTIMES
from vitsearch_agent.runtimes import reference_models
from vitsearch_agent.runtimes.base import Runtime
from vitsearch_agent.runtimes.tools.tool_runtime import LoadWindow, NotProvided, RunCount, ToolRuntime, ToolTimes
from vitsearch_agent.wire.measure_protocol import MINIMUM_RUNS, SCREEN


class RuntimeTestCase:
    """Tests for one runtime; pytest collects subclasses whose name starts with `Test`."""

    rejects_garbage = True
    """Whether the runtime must refuse a file of random bytes."""

    def make_runtime(self) -> Runtime:
        """Return the runtime under test.

        Returns:
            A new object.
        """
        raise NotImplementedError

    def make_model(self, folder: str) -> str:
        """Write a small model.

        Args:
            folder: An empty folder for its files.

        Returns:
            The path of its first file.
        """
        raise NotImplementedError

    def make_options(self) -> Dict[str, Any]:
        """Return options with which the model is loaded.

        Returns:
            Options of a job; by default none.
        """
        return {}

    def make_images(self) -> Any:
        """Return images for the model.

        Returns:
            A batch of one, as a numpy array (1, C, H, W); None if the runtime gives no outputs.
        """
        return None

    def test_has_a_name(self) -> None:
        assert self.make_runtime().name

    def test_availability_has_a_version_or_a_reason(self) -> None:
        state = self.make_runtime().available()
        assert state.version if state.available else state.reason

    def test_options_in_effect_are_json_and_stable(self) -> None:
        runtime = self.make_runtime()
        effective = runtime.check_options(self.make_options())
        canonical_json(effective)
        assert runtime.check_options(effective) == effective

    def test_unknown_option_is_refused_by_name(self) -> None:
        message = ""
        try:
            self.make_runtime().check_options({"no_such_option": 1})
        except InvalidRequest as error:
            message = str(error)
        assert "no_such_option" in message

    def test_loads_a_model_and_runs_it_several_times(self) -> None:
        runtime = self.make_runtime()
        options = runtime.check_options(self.make_options())
        with tempfile.TemporaryDirectory() as folder:
            path = self.make_model(folder)
            if isinstance(runtime, ToolRuntime):
                _check_times(_measured(runtime, path, options))
                return
            session = runtime.load(path, options, threads=1, batch=1, shapes={})
            for _ in range(3):
                session.run()
            assert session.batch == 1
            session.close()

    def test_runs_the_reference_models_beside_a_model_if_it_says_so(self) -> None:
        runtime = self.make_runtime()
        reference = runtime.reference(runtime.check_options(self.make_options()))
        if reference is None:
            return
        assert reference.options == reference.runtime.check_options(reference.options)
        with tempfile.TemporaryDirectory() as folder:
            model = runtime.load(self.make_model(folder), runtime.check_options(self.make_options()), 1, 1, {})
            for path in reference_models.write(folder):
                session = reference.runtime.load(path, reference.options, threads=1, batch=1, shapes={})
                session.run()
                model.run()
                session.close()
            model.close()

    def test_runs_in_a_forked_process_if_it_says_so(self) -> None:
        runtime = self.make_runtime()
        options = runtime.check_options(self.make_options())
        if not runtime.survives_fork(options):
            return
        with tempfile.TemporaryDirectory() as folder:
            started, forked = _started_and_forked(runtime.name, options, self.make_model(folder))
        assert started["load_ms"] is not None
        assert forked["load_ms"] is None
        assert forked["runtime_version"] == started["runtime_version"]
        assert forked["shapes"] == started["shapes"]
        assert len(forked["wall_ms"]) >= MINIMUM_RUNS

    def test_a_tool_provides_its_other_phases_or_gives_a_reason(self) -> None:
        runtime = self.make_runtime()
        if not isinstance(runtime, ToolRuntime):
            return
        protocol = SCREEN._replace(soak_s=0.5, throughput_s=0.5, power_s=0.5)
        phases: Tuple[Tuple[Callable[..., Any], Callable[[Any], None]], ...] = (
            (runtime.sustained, _check_times),
            (runtime.throughput, _check_counted),
            (runtime.power_load, _check_worked),
        )
        options = runtime.check_options(self.make_options())
        with tempfile.TemporaryDirectory() as folder:
            path = self.make_model(folder)
            _measured(runtime, path, options)
            for ask, check in phases:
                with contextlib.suppress(NotProvided):
                    check(ask(path, options, protocol))

    def test_gives_outputs_if_it_declares_them(self) -> None:
        runtime = self.make_runtime()
        images = self.make_images()
        if images is None:
            assert not runtime.gives_outputs
            return
        options = runtime.check_options(self.make_options())
        with tempfile.TemporaryDirectory() as folder:
            session = runtime.load(self.make_model(folder), options, threads=1, batch=1, shapes={})
            outputs = session.infer(images)
            again = session.infer(images.copy())
            session.run()
            session.close()
            wrong = None
            try:
                session = runtime.load(self.make_model(folder), options, threads=1, batch=1, shapes={})
                session.infer(images[..., :-1].copy())
            except MeasurementFailed as error:
                wrong = error.kind
        assert wrong == "incompatible_artifact"
        assert len(outputs) == 1
        assert outputs.shape == again.shape
        assert (outputs == again).all()

    def test_streams_run_at_the_same_time_as_one_run_does(self) -> None:
        runtime = self.make_runtime()
        if isinstance(runtime, ToolRuntime):
            return
        options, images = runtime.check_options(self.make_options()), self.make_images()
        with tempfile.TemporaryDirectory() as folder:
            path = self.make_model(folder)
            sessions = runtime.load_streams(path, options, 1, 1, {}, 3)
            assert len(sessions) == 3
            with ThreadPoolExecutor(3) as pool:
                for running in [pool.submit(session.run) for session in sessions]:
                    running.result()
                if images is None:
                    return
                single = runtime.load(path, options, threads=1, batch=1, shapes={})
                given = [images * scale for scale in (1, 2, 3)]
                given = [scaled.astype(images.dtype) for scaled in given]
                answers = [pool.submit(session.infer, each) for session, each in zip(sessions, given)]
                for answer, each in zip(answers, given):
                    assert (answer.result() == single.infer(each)).all()

    def test_garbage_is_an_incompatible_artifact(self) -> None:
        if not self.rejects_garbage:
            return
        runtime = self.make_runtime()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            with open(path, "wb") as stream:
                stream.write(b"\xff\x00garbage" * 64)
            kind = "loaded"
            try:
                if isinstance(runtime, ToolRuntime):
                    _measured(runtime, path, runtime.check_options({}))
                else:
                    runtime.load(path, runtime.check_options({}), threads=1, batch=1, shapes={})
            except MeasurementFailed as error:
                kind = error.kind
            assert kind == "incompatible_artifact"


def _started_and_forked(name: str, options: Dict[str, Any], model: str) -> List[Dict[str, Any]]:
    """Return the reports of a started process that measures a model, and of a forked one."""
    protocol = SCREEN._replace(min_s=0.1, warmup_min_s=0.01)
    job = {"kind": "measure", "phase": "latency", "runtime": name, "options": options, "protocol": protocol.to_json()}
    job = dict(job, model=os.path.basename(model), answer="answer.json")
    folder = os.path.dirname(model)
    processes.adopt_orphans()
    with contextlib.closing(StopSignal()) as stop, contextlib.closing(WarmParents()) as parents:
        parent = parents.parent(ParentKey("here", name, 0), child_environment(sys.executable, folder))
        assert parent is not None
        return [run_child(job, folder, 120.0, stop, parent=each)["report"] for each in (None, parent)]


def _measured(runtime: ToolRuntime, path: str, options: Dict[str, Any]) -> ToolTimes:
    if runtime.prepares:
        runtime.prepare(path, options, SCREEN)
    return runtime.measure(path, options, SCREEN)


def _check_times(times: ToolTimes) -> None:
    assert len(times.wall_ms) >= MINIMUM_RUNS
    assert all(math.isfinite(value) and value >= 0 for value in times.wall_ms)
    assert {"cpu_ms", "contention"} <= set(times.reasons)
    for name in ("load_ms", "first_inference_ms", "peak_memory_mb"):
        assert (getattr(times, name) is None) == (name in times.reasons)


def _check_counted(counted: RunCount) -> None:
    assert counted.runs >= 1
    assert math.isfinite(counted.runs_per_s)
    assert counted.runs_per_s > 0


def _check_worked(worked: LoadWindow) -> None:
    assert worked.runs >= 1
    assert 0 < worked.window[0] < worked.window[1] <= time.monotonic()


class ManualTime:
    """A clock that moves only in `sleep`, which then calls `on_sleep` with the new time."""

    def __init__(self, on_sleep: Optional[Callable[[float], None]] = None) -> None:
        self.now = 100.0
        self._on_sleep = on_sleep

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._on_sleep is not None:
            self._on_sleep(self.now)


class PowerMeterTestCase:
    """Tests for one power meter; pytest collects subclasses whose name starts with `Test`."""

    def make_meter(self) -> PowerMeter:
        """Return the meter on a system that has it.

        Returns:
            A new object.
        """
        raise NotImplementedError

    def make_missing_meter(self) -> PowerMeter:
        """Return the meter on a system that does not have it.

        Returns:
            A new object.
        """
        raise NotImplementedError

    def advance(self) -> None:
        """Let time pass and the counters of the emulated system move."""

    def _samples(self, meter: PowerMeter, times: int = 4) -> List[Sample]:
        samples = []
        for _ in range(times):
            self.advance()
            sample = meter.sample()
            if sample is not None:
                samples.append(sample)
        return samples

    def test_describes_what_it_measures(self) -> None:
        meter = self.make_meter()
        assert meter.available().available
        assert meter.name
        assert meter.scope in SCOPES
        assert meter.rate_hz > 0

    def test_unknown_option_is_refused_by_name(self) -> None:
        message = ""
        try:
            type(self.make_meter())(self.make_meter().system, {"no_such_option": 1})
        except InvalidRequest as error:
            message = str(error)
        assert "no_such_option" in message

    def test_only_a_missing_meter_gives_a_reason(self) -> None:
        present, missing = self.make_meter().available(), self.make_missing_meter().available()
        assert (present.available, present.reason) == (True, None)
        assert not missing.available
        assert missing.reason

    def test_each_sample_has_a_time_and_one_value(self) -> None:
        meter = self.make_meter()
        meter.start()
        samples = self._samples(meter)
        meter.stop()
        assert samples
        for sample in samples:
            values = [value for value in (sample.power_w, sample.energy_j) if value is not None]
            assert len(values) == 1
            assert math.isfinite(values[0])
            assert values[0] >= 0
            assert sample.time_s <= meter.system.clock()

    def test_time_and_energy_never_decrease(self) -> None:
        meter = self.make_meter()
        meter.start()
        samples = self._samples(meter, 8)
        meter.stop()
        for before, after in zip(samples, samples[1:]):
            assert after.time_s >= before.time_s
            assert (after.energy_j is None) == (before.energy_j is None)
            assert after.energy_j is None or before.energy_j is None or after.energy_j >= before.energy_j

    def test_can_be_restarted_and_stopped_at_any_time(self) -> None:
        meter = self.make_meter()
        meter.stop()
        for _ in range(2):
            meter.start()
            assert self._samples(meter)
            meter.stop()
            meter.stop()

    def test_a_missing_meter_gives_a_reason_and_no_value(self) -> None:
        meter = self.make_missing_meter()
        meter.start()
        assert self._samples(meter) == []
        assert meter.problem
        meter.stop()

    def test_its_own_recording_is_in_order(self) -> None:
        meter = self.make_meter()
        if not meter.records_itself:
            return
        start_s = meter.system.clock()
        meter.start()
        for _ in range(4):
            self.advance()
        end_s = meter.system.clock()
        meter.stop()
        series = meter.recorded(start_s, end_s)
        assert series is not None
        assert len(series.times_s) == len(series.values) >= 2
        assert all(before < after for before, after in zip(series.times_s, series.times_s[1:]))


def check_facts(name: str) -> None:
    """Raise AssertionError where the facts of a runtime (`runtime_facts`) are missing, or differ from its class.

    Args:
        name: The name of its module there.
    """
    facts = RUNTIMES[name]
    runtime = plugins.loaded(facts.runtime)()
    assert runtime.name == name
    assert (runtime.libraries, runtime.tools) == (facts.libraries, facts.tools)
    assert bool(facts.package) == bool(facts.libraries), "what pip installs for its libraries"
    assert [each.place for each in RUNTIMES.values()].count(facts.place) == 1


def check_format(kind: str) -> None:
    """Raise AssertionError where the facts of a format are missing, or its check lets a file of zeros and ones pass.

    Args:
        kind: Its name in jobs.
    """
    form = FORMATS[kind]
    assert all(callable(plugins.loaded(each)) for each in (form.inputs, form.references) if each is not None)
    assert [each.files[0] for each in FORMATS.values()].count(form.files[0]) == 1
    with tempfile.TemporaryDirectory() as folder:
        paths = {each: os.path.join(folder, each) for each in form.files}
        for path in paths.values():
            with open(path, "wb") as stream:
                stream.write(b"\1\0" * 4096)
        assert _refused(kind, paths) == "incompatible_artifact"


def _refused(kind: str, paths: Dict[str, str]) -> Optional[str]:
    """The kind of the failure with which the check of a format refuses files; None if it does not."""
    try:
        artifacts.inspect(kind, paths)
    except MeasurementFailed as error:
        return error.kind
    return None
