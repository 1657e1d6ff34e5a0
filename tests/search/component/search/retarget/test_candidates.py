"""The models of a study as they are deployed on a target."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from vitsearch.core.figures import Metrics
from vitsearch.core.plan import Deployment
from vitsearch.core.record import Keys
from vitsearch.search.retarget.candidates import Finder, RetargetCandidate
from vitsearch.study.retargeted import Target

OWN = Deployment("local", "onnxruntime", "cpu", "fp32", 1)
HERE = Metrics.of({"cpu_ms_p50": 2.0, "latency_ms_p50": 2.5, "macs_m": 10.0, "params_m": 1.0, "energy_mj": None})


@pytest.fixture
def candidate(plan) -> RetargetCandidate:
    return RetargetCandidate(3, OWN, HERE, replace(plan, deployments=(replace(OWN, device="nano"),)), 1, Keys(*"wgad"))


def found(moved, target, **changes):
    with moved.study.opened() as (study, ledger):
        finder = Finder(moved.pipeline(ledger, target), target, lambda plan: None, lambda record: record.metrics)
        return asyncio.run(replace(finder, **changes).models(study.records()))[0]


def test_a_graph_is_known_by_its_cost_here_and_by_its_size(candidate):
    graph = candidate.graph("cpu_ms_p50")
    assert (graph.family, graph.logs) == ("fake_vit", tuple(map(math.log, (2.0, 10.0, 1.0))))
    assert graph.deployment == "onnxruntime cpu fp32 > onnxruntime cpu fp32"


def test_latency_stands_for_a_cost_that_was_not_measured_here(candidate):
    assert candidate.graph("energy_mj").logs[0] == pytest.approx(math.log(2.5))


def test_another_device_alone_is_the_same_deployment(candidate):
    assert candidate.moves_only
    assert not replace(candidate, own=replace(OWN, runtime="openvino")).moves_only


def test_every_confirmed_model_is_a_candidate_with_its_stored_file(moved):
    records = {number: record for number, record in moved.study.records().items() if record.is_confirmed}
    models = found(moved, Target("nano"))
    assert {model.trial for model in models} == set(records)
    assert all(model.keys.artifact_key == records[model.trial].keys.artifact_key for model in models)
    assert all(model.keys.device_id == "nano-1" for model in models)


def test_of_models_that_are_the_same_there_the_one_that_is_already_deployed_so_is_kept(moved):
    models = found(moved, Target("local", quantization="int8_dynamic"))
    int8 = {
        record.keys.artifact_key
        for record in moved.study.records().values()
        if record.is_confirmed and record.plan.deployment.precision == "int8_dynamic"
    }
    assert {model.keys.artifact_key for model in models if model.moves_only} == int8
