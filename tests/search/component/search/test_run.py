"""Putting a run together: what is refused before anything starts, and what each part is given."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing, nullcontext
from dataclasses import replace

import pytest

from support.real_search import write_images
from vitsearch import stages
from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec
from vitsearch.devices.pausing_device import PausingDevice
from vitsearch.errors import ResourceError, StudyError
from vitsearch.pipeline.progress import Silent
from vitsearch.search import run, stage_config
from vitsearch.search.session import Session
from vitsearch.space import SearchSpace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study
from vitsearch.testing.fakes import FakeDevice, FakeRunner
from vitsearch.workers.cluster.resources import Resources


def plans_of(space: SearchSpace, *_: object, **__: object) -> PlanSpace:
    return PlanSpace(space, "local", lambda backbone, knob, value: None, lambda backbone: ImageSize.square(28))


def test_a_run_that_is_refused_for_its_trainers_leaves_nothing(space):
    with pytest.raises(ResourceError, match="resources: 999 trainers"):
        run.run(SearchSpace.from_json(space.to_json() | {"resources": {"trainers": 999}}), Silent())
    assert not run.StudyFolders.of(space).own.exists()


def test_images_of_a_folder_are_kept_at_the_largest_resolution(space, tmp_path):
    value = space.to_json()
    value["task"]["data"] |= {"source": "folder", "root": str(tmp_path)}
    assert stage_config.data_spec(SearchSpace.from_json(value))["image_size"] == 28


def test_a_study_keeps_the_size_of_its_images_when_a_backbone_with_another_crop_is_added(space, tmp_path):
    value = space.to_json()
    value["task"]["data"] |= {"source": "folder", "root": str(tmp_path)}
    value["space"] |= {"backbone": [{"name": "efficientvit_b0"}], "resolution": [224]}
    value["baseline"] = None
    first = stage_config.data_spec(SearchSpace.from_json(value))
    value["space"]["backbone"].append({"name": "deit_tiny_patch16_224"})
    more = SearchSpace.from_json(value)
    assert (first["image_size"], stage_config.data_spec(more)["image_size"]) == (236, 249)
    assert stage_config.data_spec(more, first)["image_size"] == 236
    value["space"]["resolution"] = [256]  # larger than what is stored
    assert stage_config.data_spec(SearchSpace.from_json(value), first)["image_size"] == 284


def test_images_are_stored_in_the_shape_that_holds_every_resolution(space, tmp_path):
    value = space.to_json()
    value["task"]["data"] |= {"source": "folder", "root": str(tmp_path)}
    value["space"] |= {"resolution": [28, [24, 32]]}
    several = SearchSpace.from_json(value)
    assert stage_config.data_spec(several)["image_size"] == [28, 32]
    assert stage_config.data_spec(several, {"image_size": [40, 30]})["image_size"] == [28, 32]
    assert stage_config.data_spec(several, {"image_size": [28, 40]})["image_size"] == [28, 40]
    value["task"]["data"]["image_size"] = [48, 64]
    assert stage_config.data_spec(SearchSpace.from_json(value))["image_size"] == [48, 64]


def test_the_shape_of_images_that_are_cropped_is_that_of_the_model(space, tmp_path):
    value = space.to_json()
    value["task"]["data"] |= {"source": "folder", "root": str(tmp_path)}
    value["space"] |= {"backbone": [{"name": "deit_tiny_patch16_224"}], "resolution": [[192, 256]]}
    value["baseline"] = None
    stored = ImageSize.of(stage_config.data_spec(SearchSpace.from_json(value))["image_size"])
    assert stored == ImageSize(213, 284)  # 192 x 256 are nine tenths of each side
    value["space"]["resolution"] = [[2048, 4096]]
    widest = ImageSize.of(stage_config.data_spec(SearchSpace.from_json(value))["image_size"])
    assert widest == ImageSize(2048, 4096)


def test_what_workers_are_given_is_a_data_spec_and_can_be_a_key(space):
    value = space.to_json()
    value["task"]["data"] = {"source": "wds/parts", "root": "parts", "class_names": ["bolt", "nut"]}
    spec = stage_config.data_spec(SearchSpace.from_json(value))
    assert DataSpec.from_json(spec).class_names == ("bolt", "nut")
    assert hash(tuple(sorted(spec.items())))


def test_base_and_teacher_are_trained_from_labels_alone_each_with_its_own_budget(space):
    data = {"fingerprint": "0" * 64, "class_names": ["a", "b"], "channels": 1, "mean": [0.5], "std": [0.25]}
    value = space.to_json()
    value["task"]["base"] |= {"epochs": 4, "weight_decay": 0.1, "warmup_steps": 3, "augmentation": "light"}
    value["task"]["teacher"] = {"backbone": "big_vit", "weights": "hub", "epochs": 9}
    config = stage_config.stage_config_of(plans_of(SearchSpace.from_json(value)), data)
    base, teacher = config.base_recipe, config.teacher
    assert (base.rungs, base.weight_decay, base.warmup_steps, base.distillation_weight) == ((0, 4), 0.1, 3, 0.0)
    assert base.augmentation.flip == 0.5
    assert (teacher.backbone, teacher.weights) == ("big_vit", "hub")
    assert teacher.recipe == replace(base, rungs=(0, 9))


REMOTE = {"nano": {"url": "http://nano:8000"}}


class IdleWorkers:
    def resume(self) -> None:
        pass


@pytest.mark.parametrize(
    ("devices", "address", "pauses"), [({}, None, True), (REMOTE, None, False), ({}, "head:6379", False)]
)
def test_workers_pause_for_this_machine_only_and_those_of_a_cluster_never(space, monkeypatch, devices, address, pauses):
    class Runner(FakeRunner):
        resources = Resources(1, 1, 0.0)

    async def drive(session, workspace, options):
        return session.device

    monkeypatch.setattr(run, "_try_what_is_needed", lambda *_: None)  # nobody is called nano
    monkeypatch.setattr(run, "ProcessGuard", nullcontext)
    monkeypatch.setattr(run, "LocalWorkers", lambda *_: IdleWorkers())
    monkeypatch.setattr(run, "RayRunner", lambda *_: Runner())
    monkeypatch.setattr(run, "open_device", lambda *_: nullcontext(FakeDevice()))
    monkeypatch.setattr(run, "plan_space", plans_of)
    monkeypatch.setattr(run, "refuse_unable_on", lambda *_: None)
    monkeypatch.setattr(run, "drive", drive)
    device = run.run(SearchSpace.from_json(space.to_json() | {"devices": devices}), Silent(), run.Options(address))
    assert isinstance(device, PausingDevice) == pauses


def test_a_run_says_at_its_start_what_is_known_against_the_data(space, ledger, tmp_path, monkeypatch):
    write_images(tmp_path / "in" / "train", {"dark": (0, 200)}, count=40, side=8)
    write_images(tmp_path / "in" / "train", {"light": (0, 208)}, count=10, side=8)
    shutil.copytree(tmp_path / "in" / "train", tmp_path / "in" / "val")
    value = space.to_json()
    value["task"]["data"] |= {"source": "folder", "root": str(tmp_path / "in")}
    space = SearchSpace.from_json(value)

    class Reading(FakeRunner):
        def _answer(self, job):
            return job.work() if isinstance(job, stages.DataJob) else super()._answer(job)

    class Noted(Silent):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    class Idle:
        def __init__(self, *_: object) -> None:
            pass

        async def run(self, retry_failed: bool) -> None:
            pass

    monkeypatch.setattr(run, "plan_space", plans_of)
    monkeypatch.setattr(run, "Driver", Idle)
    store = FileStore(tmp_path / "files")
    workspace = stages.Workspace(run.data_spec(space), store, FileStore(tmp_path / "scratch"), tmp_path / "cache")
    progress = Noted()
    with closing(Study.open(space)) as study:
        session = Session(space, study, ledger, Reading(), FakeDevice(), DriverId.current(), 1, progress)
        asyncio.run(run.drive(session, workspace, run.Options()))
    unequal, leaked, alike = (note for note in progress.notes if note.startswith("data: "))
    assert unequal.startswith("data: unequal classes in train: 'dark' 40 images, 'light' 10 (4.0 to 1)")
    assert leaked.startswith("data: 50 of 50 validation images are also training images, so every accuracy is too high")
    assert alike.startswith("data: 45 of the 50 validation images that were compared show nearly the same as training")


@pytest.mark.parametrize("refused_by", ["refuse_unable_on", "refuse_unknown_names", "adopt_data"])
def test_a_refused_run_leaves_the_space_of_its_study_as_it_was(space, monkeypatch, refused_by):
    def refuse(*_: object) -> None:
        raise StudyError("refused")

    class Runner(FakeRunner):
        resources = Resources(1, 1, 0.0)

    class Idle:
        def __init__(self, *_: object) -> None:
            pass

        async def run(self, retry_failed: bool) -> None:
            pass

    for name, fake in {
        "_try_what_is_needed": lambda *_: None, "ProcessGuard": nullcontext, "LocalWorkers": lambda *_: IdleWorkers(),
        "RayRunner": lambda *_: Runner(), "open_device": lambda *_: nullcontext(FakeDevice()), "plan_space": plans_of,
        "refuse_unable_on": lambda *_: None, "refuse_other_channels": lambda *_: None, "Driver": Idle,
    }.items():  # fmt: skip
        monkeypatch.setattr(run, name, fake)
    run.run(space, Silent())
    changed = space.model_copy(update={"limits": {}})
    with monkeypatch.context() as patch:
        patch.setattr(run, refused_by, refuse)
        with pytest.raises(StudyError, match="refused"):
            run.run(changed, Silent())
    with closing(Study.read(space.storage, space.study)) as study:
        assert study.space() == space
        assert "space_changes" not in study.attributes
    run.run(changed, Silent())
    with closing(Study.read(space.storage, space.study)) as study:
        assert study.space() == changed
        assert len(study.attributes["space_changes"]) == 1
