"""What trainers need, compared with what the nodes of a cluster have."""

from __future__ import annotations

import pytest

from vitsearch.errors import ResourceError
from vitsearch.workers.cluster.resources import Resources, gpus_of, largest_memory_bytes, require_resources

SMALL = {"CPU": 4.0, "memory": 8e9}
LARGE = {"CPU": 16.0, "GPU": 1.0, "memory": 64e9}
HEAD = {"CPU": 0.0, "memory": 128e9}


def test_missing_gpus_are_refused():
    with pytest.raises(
        ResourceError, match="^resources: each trainer needs 8 GPU, but this machine has 1 CPU and 0 GPU"
    ):
        require_resources(Resources(1, 1, 8.0), [{"CPU": 1.0}], None)


def test_cores_of_several_nodes_do_not_add_up():
    message = "^resources: each trainer needs 8 CPU, but the largest node of the Ray cluster at head:6379 has 4 CPU"
    with pytest.raises(ResourceError, match=message):
        require_resources(Resources(1, 8, 0.0), [SMALL, SMALL], "head:6379")


def test_one_node_has_to_have_both_cores_and_gpus():
    with pytest.raises(ResourceError, match="each trainer needs 8 CPU and 4 GPU"):
        require_resources(Resources(1, 8, 4.0), [LARGE, {"CPU": 2.0, "GPU": 4.0}], "head:6379")


@pytest.mark.parametrize(
    ("trainers", "gpus", "there", "each"),
    [
        (1, "auto", 0, 0),
        (1, "auto", 1, 1),
        (3, "auto", 1, 1 / 3),
        (3, "auto", 2, 0.5),
        (2, "auto", 8, 1),
        (4, 0.0, 1, 0),
    ],
)
def test_gpus_are_divided_between_trainers(trainers, gpus, there, each):
    resources = Resources(trainers, 1, gpus)
    assert gpus_of(resources, there) == each
    require_resources(resources, [{"CPU": 1.0, "GPU": there}], None)


def test_the_largest_memory_is_that_of_nodes_on_which_a_trainer_can_run():
    assert largest_memory_bytes(Resources(1, 4, 0.0), [HEAD, SMALL]) == 8 * 10**9
    assert largest_memory_bytes(Resources(1, 4, 0.5), [HEAD, SMALL, LARGE]) == 64 * 10**9
    assert largest_memory_bytes(Resources(1, 4, 0.0), [HEAD]) == 0
