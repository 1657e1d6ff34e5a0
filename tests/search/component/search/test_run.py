"""Putting a run together: what is refused before anything starts, and what each part is given."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from vitsearch.data import DataSpec
from vitsearch.devices.cores import Cores
from vitsearch.devices.pausing_device import PausingDevice
from vitsearch.errors import ResourceError
from vitsearch.pipeline.progress import Silent
from vitsearch.search import run
from vitsearch.space import SearchSpace
from vitsearch.study.sampling import PlanSpace
from vitsearch.testing.fakes import FakeDevice, FakeRunner

FOUR = Cores(device=(3,), trainers=(0, 1, 2))


def with_resources(space: SearchSpace, **resources: object) -> SearchSpace:
    return SearchSpace.from_json(space.to_json() | {"resources": resources})


def plans_of(space: SearchSpace, *_: object, **__: object) -> PlanSpace:
    return PlanSpace(space, "local", lambda backbone, knob, value: None, lambda backbone: 28)


def test_trainers_use_the_cores_of_the_device_while_it_does_not_measure(space):
    assert run.resources_of(space, FOUR).trainers == 4
    assert run.resources_of(with_resources(space, cpus=2), FOUR).trainers == 2


def test_where_they_cannot_be_moved_off_them_they_never_do(space, monkeypatch):
    monkeypatch.setattr(run, "CAN_PIN", False)
    assert run.resources_of(space, FOUR).trainers == 3
    with pytest.raises(ResourceError, match="4 trainers with 1 cores each want 4 cores, but this machine has 3 beside"):
        run.resources_of(with_resources(space, trainers=4), FOUR)


def test_more_trainers_than_cores_are_refused_with_both_numbers(space):
    with pytest.raises(ResourceError, match="5 trainers with 1 cores each want 5 cores, but this machine has 4$"):
        run.resources_of(with_resources(space, trainers=5), FOUR)


def test_a_run_that_is_refused_for_its_trainers_leaves_nothing(space):
    with pytest.raises(ResourceError, match="resources: 999 trainers"):
        run.run(with_resources(space, trainers=999), Silent())
    assert not run.Home.of(space).own.exists()


def test_a_machine_with_one_core_measures_and_trains_on_it(space):
    one = Cores(device=(0,), trainers=(0,))
    assert run.resources_of(space, one).trainers == 1


def test_a_cluster_is_not_held_to_the_cores_of_this_machine(space):
    assert run.resources_in_cluster(with_resources(space, trainers=64, cpus=8)).trainers == 64


def test_images_of_a_folder_are_kept_at_the_largest_resolution(space, tmp_path):
    value = space.to_json()
    value["task"]["data"] |= {"source": "folder", "root": str(tmp_path)}
    assert run.data_spec(SearchSpace.from_json(value))["image_size"] == 28


def test_what_workers_are_given_is_a_data_spec_and_can_be_a_key(space):
    value = space.to_json()
    value["task"]["data"] = {"source": "wds/parts", "root": "parts", "class_names": ["bolt", "nut"]}
    given = run.data_spec(SearchSpace.from_json(value))
    assert DataSpec.from_json(given).class_names == ("bolt", "nut")
    assert hash(tuple(sorted(given.items())))


def test_base_and_teacher_are_trained_from_labels_alone_each_with_its_own_budget(space):
    data = {"fingerprint": "0" * 64, "class_names": ["a", "b"], "channels": 1}
    value = space.to_json()
    value["task"]["base"] |= {"epochs": 4, "weight_decay": 0.1, "warmup_steps": 3, "augmentation": "light"}
    value["task"]["teacher"] = {"backbone": "big_vit", "weights": "hub", "epochs": 9}
    config = run.stage_config_of(plans_of(SearchSpace.from_json(value)), data)
    base, teacher = config.base_recipe, config.teacher
    assert (base.rungs, base.weight_decay, base.warmup_steps, base.distillation_weight) == ((0, 4), 0.1, 3, 0.0)
    assert base.augmentation.flip == 0.5
    assert (teacher.backbone, teacher.weights) == ("big_vit", "hub")
    assert teacher.recipe == replace(base, rungs=(0, 9))


@pytest.mark.parametrize("gpus", ["auto", 0.0, 0.5])
def test_gpus_go_on_to_the_runner_as_they_are_asked_for(space, gpus):
    assert run.resources_of(with_resources(space, gpus=gpus), FOUR).gpus == gpus
    assert run.resources_in_cluster(with_resources(space, gpus=gpus)).gpus == gpus


REMOTE = {"nano": {"url": "http://nano:8000"}}


class IdleWorkers:
    def resume(self) -> None:
        pass


@pytest.mark.parametrize(
    ("devices", "address", "pauses"), [({}, None, True), (REMOTE, None, False), ({}, "head:6379", False)]
)
def test_workers_pause_for_this_machine_only_and_those_of_a_cluster_never(space, monkeypatch, devices, address, pauses):
    class Runner(FakeRunner):
        resources = run.Resources(1, 1, 0.0)

    async def drive(session, workspace, options):
        return session.device

    monkeypatch.setattr(run, "ProcessGuard", nullcontext)
    monkeypatch.setattr(run, "LocalWorkers", lambda *_: IdleWorkers())
    monkeypatch.setattr(run, "RayRunner", lambda *_: Runner())
    monkeypatch.setattr(run, "open_device", lambda *_: nullcontext(FakeDevice()))
    monkeypatch.setattr(run, "plan_space", plans_of)
    monkeypatch.setattr(run, "refuse_unable_on", lambda *_: None)
    monkeypatch.setattr(run, "drive", drive)
    device = run.run(SearchSpace.from_json(space.to_json() | {"devices": devices}), Silent(), run.Options(address))
    assert isinstance(device, PausingDevice) == pauses
