"""Putting a run together: what is refused before anything starts, and what each part is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitsearch import run
from vitsearch.data import DataSpec
from vitsearch.devices import Cores
from vitsearch.errors import ResourceError
from vitsearch.space import SearchSpace

FOUR = Cores(device=(3,), trainers=(0, 1, 2))


def with_resources(space: SearchSpace, **resources: object) -> SearchSpace:
    return SearchSpace.from_json(space.to_json() | {"resources": resources})


def test_trainers_get_the_cores_that_do_not_measure(space):
    assert run.resources_of(space, FOUR).trainers == 3
    assert run.resources_of(with_resources(space, cpus=2), FOUR).trainers == 1
    assert run.resources_of(space, FOUR).cores == (0, 1, 2)


def test_more_trainers_than_cores_are_refused_with_both_numbers(space):
    with pytest.raises(ResourceError, match="4 trainers with 1 cores each want 4 cores, but this machine has 3 beside"):
        run.resources_of(with_resources(space, trainers=4), FOUR)


def test_a_machine_with_one_core_measures_and_trains_on_it(space):
    one = Cores(device=(0,), trainers=(0,))
    assert run.resources_of(space, one).trainers == 1


def test_a_cluster_is_not_held_to_the_cores_of_this_machine(space):
    assert run.resources_in_cluster(with_resources(space, trainers=64, cpus=8)).trainers == 64


def test_files_of_a_study_lie_beside_its_database(space, tmp_path):
    assert run.Home.of(space).root == tmp_path / "fake"


def test_files_of_a_study_on_a_server_lie_in_studies(space):
    remote = SearchSpace.from_json(space.to_json() | {"storage": "postgresql+psycopg://me@db/studies"})
    assert run.Home.of(remote).root == Path("studies/fake").resolve()


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


def test_the_setting_says_whose_clock_decides(space):
    data = {"fingerprint": "0" * 64, "class_names": ["a", "b"], "channels": 1}
    assert not run.setting_of(space, data).wall_clock_decides
    latency = space.to_json() | {"objectives": {"accuracy": "maximize", "latency_ms_p50": "minimize"}}
    assert run.setting_of(SearchSpace.from_json(latency), data).wall_clock_decides


def test_the_base_recipe_trains_without_a_teacher(space):
    recipe = run.base_recipe(space)
    assert recipe.rungs == (0, space.task.base.epochs)
    assert recipe.distillation_weight == 0.0
