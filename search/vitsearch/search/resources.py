"""How many trainers a run has, and on how many cores of this machine or of a cluster."""

from __future__ import annotations

import os

from vitsearch.devices.cores import CAN_PIN, Cores
from vitsearch.errors import ResourceError
from vitsearch.space import SearchSpace
from vitsearch.workers.cluster.resources import Resources


def cores_here(space: SearchSpace) -> Cores | None:
    """The cores of a machine that measures for itself; None for a space with devices of its own."""
    return None if space.devices else Cores.shared(space.cores)


def trainers_of(space: SearchSpace, cores: Cores | None) -> int:
    """As many as the file asks for, else one for each share of the cores."""
    wanted = space.resources
    return max(1, _free(cores) // wanted.cpus) if wanted.trainers == "auto" else wanted.trainers


def trainers_here(space: SearchSpace) -> int:
    """As many as the file asks for and this machine has cores for."""
    cores = cores_here(space)
    return min(trainers_of(space, cores), max(1, _free(cores) // space.resources.cpus))


def resources_of(space: SearchSpace, cores: Cores | None) -> Resources:
    """What each trainer gets; `ResourceError` for a request for more than this machine has."""
    wanted, free, trainers = space.resources, _free(cores), trainers_of(space, cores)
    if trainers * wanted.cpus > free:
        measuring = " besides the one that measures" if cores and free < len(cores.all) else ""
        raise ResourceError(
            f"resources: {trainers} trainers with {wanted.cpus} cores each want {trainers * wanted.cpus} cores, "
            f"but this machine has {free}{measuring}"
        )
    return Resources(trainers, wanted.cpus, wanted.gpus)


def one_trainer(space: SearchSpace, cores: Cores | None) -> Resources:
    """For the commands that make a few stages one after the other, on any machine."""
    wanted = space.resources
    return Resources(1, min(wanted.cpus, _free(cores)), wanted.gpus)


def _free(cores: Cores | None) -> int:
    """Trainers may use the cores of the device while it does not measure, where they can be moved off them."""
    return len(cores.all if CAN_PIN else cores.trainers) if cores else os.cpu_count() or 1


def cores_of(space: SearchSpace, cores: Cores | None, ray_address: str | None) -> int:
    """The cores that a run may use: those of this machine that are ours, or what it asks of a cluster."""
    if ray_address is not None:
        wanted = resources_in_cluster(space)
        return wanted.trainers * wanted.cpus
    return len(cores.all) if cores else os.cpu_count() or 1


def resources_in_cluster(space: SearchSpace) -> Resources:
    """What each trainer gets in a cluster; RayRunner checks its size. `auto` is one trainer."""
    wanted = space.resources
    return Resources(1 if wanted.trainers == "auto" else wanted.trainers, wanted.cpus, wanted.gpus)
