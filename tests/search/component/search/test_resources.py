"""How many trainers a run has, and what is refused."""

from __future__ import annotations

import pytest

from vitsearch.devices.cores import Cores
from vitsearch.errors import ResourceError
from vitsearch.search import resources
from vitsearch.search.resources import (
    cores_here,
    one_trainer,
    resources_in_cluster,
    resources_of,
    trainers_here,
    trainers_of,
)
from vitsearch.space import SearchSpace

FOUR = Cores(device=(3,), trainers=(0, 1, 2))


def with_resources(space: SearchSpace, **resources: object) -> SearchSpace:
    return SearchSpace.from_json(space.to_json() | {"resources": resources})


def test_trainers_use_the_cores_of_the_device_while_it_does_not_measure(space):
    assert resources_of(space, FOUR).trainers == 4
    assert resources_of(with_resources(space, cpus=2), FOUR).trainers == 2


def test_where_they_cannot_be_moved_off_them_they_never_do(space, monkeypatch):
    monkeypatch.setattr(resources, "CAN_PIN", False)
    assert resources_of(space, FOUR).trainers == 3
    with pytest.raises(ResourceError, match="4 trainers with 1 cores each want 4 cores, but this machine has 3 beside"):
        resources_of(with_resources(space, trainers=4), FOUR)


def test_more_trainers_than_cores_are_refused_with_both_numbers(space):
    with pytest.raises(ResourceError, match="5 trainers with 1 cores each want 5 cores, but this machine has 4$"):
        resources_of(with_resources(space, trainers=5), FOUR)


def test_a_machine_with_one_core_measures_and_trains_on_it(space):
    cores = Cores(device=(0,), trainers=(0,))
    assert resources_of(space, cores).trainers == 1


def test_a_cluster_is_not_held_to_the_cores_of_this_machine(space):
    assert resources_in_cluster(with_resources(space, trainers=64, cpus=8)).trainers == 64


def test_what_is_asked_for_is_counted_although_it_will_be_refused(space):
    assert trainers_of(with_resources(space, trainers=5), FOUR) == 5


def test_no_more_trainers_than_cores_are_counted_on(space, monkeypatch):
    monkeypatch.setattr(resources, "cores_here", lambda space: FOUR)
    assert trainers_here(with_resources(space, trainers=99)) == 4
    assert trainers_here(with_resources(space, trainers=1)) == 1


def test_a_machine_that_measures_for_itself_has_its_last_core_for_that(space):
    cores = cores_here(space)
    assert cores.device == cores.all[-1:]


@pytest.mark.parametrize("gpus", ["auto", 0.0, 0.5])
def test_gpus_go_on_to_the_runner_as_they_are_asked_for(space, gpus):
    assert resources_of(with_resources(space, gpus=gpus), FOUR).gpus == gpus
    assert resources_in_cluster(with_resources(space, gpus=gpus)).gpus == gpus


def test_the_commands_that_make_a_few_stages_run_on_a_smaller_machine(space):
    resources = one_trainer(with_resources(space, trainers=8, cpus=64), FOUR)
    assert (resources.trainers, resources.cpus) == (1, 4)
