"""What every runtime must satisfy. In your package's tests:

class TestMyRuntime(RuntimeTestCase):
    def make_runtime(self): return MyRuntime()
    def make_model(self, folder): ...write a small model and return its path...
"""

import os
import tempfile
from typing import Any, Callable, Dict, Optional

from vitsearch_evaluators.canonical import canonical_json
from vitsearch_evaluators.errors import InvalidRequest, MeasurementFailed
from vitsearch_evaluators.runtimes.base import Runtime


class RuntimeTestCase:
    """Collected by pytest in subclasses whose name starts with `Test`."""

    rejects_garbage = True
    """Whether loading a file of random bytes must fail."""

    def make_runtime(self) -> Runtime:
        raise NotImplementedError

    def make_model(self, folder: str) -> str:
        raise NotImplementedError

    def make_options(self) -> Dict[str, Any]:
        return {}

    def test_has_a_name(self) -> None:
        assert self.make_runtime().name

    def test_availability_is_complete(self) -> None:
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

    def test_loads_and_runs_often(self) -> None:
        runtime = self.make_runtime()
        options = runtime.check_options(self.make_options())
        with tempfile.TemporaryDirectory() as folder:
            session = runtime.load(self.make_model(folder), options, threads=1, batch=1)
            for _ in range(3):
                session.run()
            session.close()

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
                runtime.load(path, runtime.check_options({}), threads=1, batch=1)
            except MeasurementFailed as error:
                kind = error.kind
            assert kind == "incompatible_artifact"


class ManualTime:
    """A clock that moves only when somebody sleeps, and then calls `on_sleep` with the time."""

    def __init__(self, on_sleep: Optional[Callable[[float], None]] = None) -> None:
        self.now = 100.0
        self._on_sleep = on_sleep

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._on_sleep is not None:
            self._on_sleep(self.now)
