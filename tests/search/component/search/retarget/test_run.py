"""What is refused before a worker or a device is started, and what a run is given."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

import pytest

from vitsearch.errors import ResourceError, StudyError, UnknownName
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Silent
from vitsearch.search.retarget import run
from vitsearch.search.retarget.run import refuse, retarget
from vitsearch.search.retarget.untrained_runner import UntrainedRunner
from vitsearch.space import SearchSpace
from vitsearch.stages import Runner
from vitsearch.storage.ledger import Ledger
from vitsearch.study.retargeted import Target
from vitsearch.study.study import Study
from vitsearch.testing.fakes import FakeDevice


def test_the_device_of_the_study_alone_is_no_target(space):
    with pytest.raises(StudyError, match="study 'fake' was searched on local: name another --device, or what changes"):
        refuse(Target("local"), space)


def test_a_runtime_that_nobody_knows_is_refused_with_the_nearest(space):
    with pytest.raises(UnknownName, match="no runtime is called 'openvio'; did you mean 'openvino'"):
        refuse(Target("local", "openvio"), space)


def test_more_threads_than_this_machine_has_cores_are_refused(space):
    cores = len(os.sched_getaffinity(0))
    with pytest.raises(ResourceError, match=f"--threads {cores + 1}: this machine has {cores} cores for them"):
        refuse(Target("local", threads=cores + 1), space)


def test_the_threads_of_another_device_are_its_own_matter(space):
    refuse(Target("nano", threads=256), space)


@dataclass(frozen=True)
class Place:
    """What works for one command, between the fakes."""

    study: Study
    ledger: Ledger
    device: FakeDevice
    space: SearchSpace
    make_pipeline: Callable[[Runner], Pipeline]
    runner: Runner

    @asynccontextmanager
    async def pipeline(self):
        yield self.make_pipeline(self.runner)


def test_a_run_has_the_space_of_the_target_and_workers_that_train_nothing(moved, monkeypatch):
    spaces, runners = [], []

    @contextmanager
    def opened(study, ledger, space, progress):
        def made(runner):
            runners.append(runner)
            return replace(moved.study, space=space, device=moved.board, runner=runner).pipeline(ledger)

        spaces.append(space)
        yield Place(study, ledger, moved.board, space, made, moved.study.runner)

    monkeypatch.setattr(run.finished_session, "opened", opened)
    monkeypatch.setattr(run, "deployable_on", lambda *_: lambda deployment: None)
    monkeypatch.setattr(run.legality, "reasons", lambda *_: [])
    retargeted = retarget(
        moved.study.space.storage.removeprefix("sqlite:///"), Target("nano", threads=2), False, Silent()
    )
    assert (spaces[0].device_names, spaces[0].measure.threads) == (("nano",), 2)
    assert isinstance(runners[0], UntrainedRunner)
    assert {record.plan.deployment.device for record in retargeted.models.values()} == {"nano"}
