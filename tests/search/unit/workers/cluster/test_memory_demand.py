"""What a stage asks for, from what stages of its kind took."""

from __future__ import annotations

from dataclasses import fields

import pytest

from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.stage import Stage
from vitsearch.stages import CompressionSpec, Job, Source
from vitsearch.storage.stage_cost import StageKind
from vitsearch.workers.cluster.memory_demand import MemoryDemand, kind_of

TRAIN, OTHER = StageKind(Stage.TRAIN, "vit"), StageKind(Stage.TRAIN, "swin")
NODE = 64 * 10**9


def test_a_kind_that_was_never_measured_asks_for_nothing():
    assert MemoryDemand({OTHER: 1000.0}).request_bytes(TRAIN, NODE) == 0


@pytest.mark.parametrize(("peak_mb", "asked_mb"), [(1000.0, 1300), (1040.0, 1300), (1041.0, 1400), (1.0, 100)])
def test_a_request_is_the_peak_and_a_quarter_in_whole_steps(peak_mb, asked_mb):
    assert MemoryDemand({TRAIN: peak_mb}).request_bytes(TRAIN, NODE) == asked_mb * 10**6


def test_a_request_is_never_more_than_the_largest_node_has():
    assert MemoryDemand({TRAIN: 1000.0}).request_bytes(TRAIN, 5 * 10**8) == 5 * 10**8


def test_the_largest_peak_counts_and_an_unmeasured_one_does_not():
    demand = MemoryDemand({})
    for peak_mb in (400.0, 800.0, 600.0, None):
        demand.learn(TRAIN, peak_mb)
    assert demand.request_bytes(TRAIN, NODE) == 1000 * 10**6


def test_what_found_no_memory_asks_for_half_a_node_then_for_more_then_for_all_of_it():
    demand, amounts = MemoryDemand({TRAIN: 1000.0}), []
    for _ in range(3):
        demand.grow(TRAIN, NODE)
        amounts.append(demand.request_bytes(TRAIN, NODE))
    assert amounts == [32 * 10**9, 48 * 10**9, NODE]


def all_jobs(above=Job):
    """Every class of jobs that has a stage."""
    for kind in above.__subclasses__():
        if kind.__module__.startswith("vitsearch.stages."):
            yield from [kind] if hasattr(kind, "stage") else []
            yield from all_jobs(kind)


@pytest.mark.parametrize("job", list(all_jobs()), ids=lambda job: job.__name__)
def test_every_job_that_starts_from_a_model_has_its_backbone(job):
    source = Source("vit", "none", ImageSize.square(28), FASHION_MNIST)
    values = {"source": source, "spec": CompressionSpec(source, None, "")}
    names = [field.name for field in fields(job)]
    each_job = job(**{name: values.get(name) for name in names})
    assert kind_of(each_job) == (job.stage, "vit" if values.keys() & names else "")
