"""A conformance test of observers: subclass `ObserverTests`, set `name` and give a `setting`.

    class TestMyObserver(ObserverTests):
        name = "my_observer"

        @pytest.fixture
        def setting(self, tmp_path):
            return str(tmp_path / "lines.txt")

The observer is found by that name in `vitsearch.search.observers.OBSERVERS`, so an entry point is tested too.
Tests are skipped where a library is missing (`missing`).
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.record import Keys, Record
from vitsearch.core.stage import Stage
from vitsearch.errors import ResourceError
from vitsearch.pipeline.progress import TRAINED
from vitsearch.search.observers import OBSERVERS, BundleObserver, FinalFront, Observer, RunObserver, ShippedModel
from vitsearch.space import SearchSpace
from vitsearch.study.front import Front, Point

RECIPE = Recipe((0, 1), 64, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0)
DEPLOYMENT = Deployment("local", "onnxruntime", "cpu", "fp32", 1)
PLAN = Plan("fake_vit", "builtin", ImageSize.square(28), None, Compression(0.5, 0.5), "none", RECIPE, (DEPLOYMENT,))
KEYS = Keys("aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32)
CONFIRMED = Record("confirmed", PLAN, "", KEYS, Metrics.of({"accuracy": 0.9, "cpu_ms_p50": 2.0}), rung=1)
FAILED = Record("failed", PLAN, "training failed (crash): what happened")
MODEL = Point(1, PLAN, KEYS, CONFIRMED.metrics)
FRONT = FinalFront(Front("observed", ("accuracy", "cpu_ms_p50"), None, (MODEL,), 0), 0.5)
OBJECTIVES = {"accuracy": "maximize", "cpu_ms_p50": "minimize"}


def report_run(run: RunObserver) -> None:
    """What a run that resumes a study tells, in order: every call at least once."""
    run.note("resuming 1 trial of an interrupted run")
    run.earlier_trials({0: replace(CONFIRMED, rung=0)})
    with run.stage(Stage.BASE):
        run.doing({"training a base: fake_vit": "epoch 1/2"})
    run.started(1, PLAN)
    with pytest.raises(OSError, match="an error of the stage"), run.stage(Stage.TRAIN):
        raise OSError("an error of the stage")
    run.waits("the device, 8 s so far")
    run.waits(None)
    run.counted(TRAINED, 1, None)
    run.counted(TRAINED, 1, 2)
    run.left("1 min left")
    run.ended(1, CONFIRMED)
    run.ended(2, FAILED)  # a trial whose record is known only ends


class ObserverTests:
    """What every observer guarantees.

    `unusable` is a setting that is refused before the run; None where an observer takes any.
    """

    name: ClassVar[str]
    unusable: ClassVar[str | None] = None

    @pytest.fixture
    def setting(self) -> str:
        """A setting that works, and that no other test uses."""
        raise NotImplementedError

    @pytest.fixture
    def observer(self) -> Observer:
        observer = OBSERVERS.get(self.name)()
        if reason := observer.missing():
            pytest.skip(reason)
        return observer

    @pytest.fixture
    def space(self, tmp_path: Path) -> SearchSpace:
        """That of a study that no run has begun."""
        space: dict[str, Any] = {"backbone": [{"name": "fake_vit", "weights": "builtin"}], "resolution": 28}
        task = {"data": {"source": "builtin:fashion-mnist-14k"}}
        storage = f"sqlite:///{tmp_path / 'observed.db'}"
        stored = {"study": "observed", "task": task, "objectives": OBJECTIVES, "space": space, "storage": storage}
        return SearchSpace.from_json(stored)

    @pytest.fixture
    def notes(self) -> list[str]:
        return []

    def test_every_call_of_a_run_is_taken(
        self, observer: Observer, setting: str, space: SearchSpace, notes: list[str]
    ) -> None:
        with observer.observe(setting, space, notes.append) as run:
            report_run(run)
            run.finished(lambda: FRONT)

    def test_a_second_run_of_a_study_is_taken(
        self, observer: Observer, setting: str, space: SearchSpace, notes: list[str]
    ) -> None:
        for _ in range(2):
            with observer.observe(setting, space, notes.append) as run:
                report_run(run)

    def test_an_error_of_the_run_passes_through(
        self, observer: Observer, setting: str, space: SearchSpace, notes: list[str]
    ) -> None:
        def stopped_run() -> None:
            with observer.observe(setting, space, notes.append) as run:
                report_run(run)
                raise KeyboardInterrupt("stopped by the user")

        with pytest.raises(KeyboardInterrupt, match="stopped by the user"):
            stopped_run()

    def test_no_thread_of_it_is_left_after_the_run(
        self, observer: Observer, setting: str, space: SearchSpace, notes: list[str]
    ) -> None:
        with observer.observe(setting, space, notes.append) as run:
            report_run(run)  # what its libraries keep for the whole process is there by now
        before = set(threading.enumerate())
        with observer.observe(setting, space, notes.append) as run:
            report_run(run)
        assert set(threading.enumerate()) - before == set()

    def test_a_setting_that_cannot_be_used_ends_the_run_before_it_begins(
        self, observer: Observer, space: SearchSpace, notes: list[str]
    ) -> None:
        if self.unusable is None:
            pytest.skip(f"observer {self.name} takes any setting")
        with pytest.raises(ResourceError), observer.observe(self.unusable, space, notes.append):
            pytest.fail("it was opened")

    def test_a_bundle_is_taken(self, observer: Observer, setting: str, space: SearchSpace, tmp_path: Path) -> None:
        if not isinstance(observer, BundleObserver):
            pytest.skip(f"observer {self.name} takes no bundles")
        (card := tmp_path / "README.md").write_text("# observed-trial-1\n")
        (archive := tmp_path / "observed-trial-1.zip").write_bytes(b"zip")
        figures = {"accuracy_test": 0.9, "cpu_ms_p50": 2.0}
        shipped = ShippedModel("observed-trial-1", 1, KEYS.artifact_key or "", card, archive, figures)
        observer.send_bundle(setting, space, FRONT, shipped)
