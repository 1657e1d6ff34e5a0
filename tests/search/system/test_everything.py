"""The whole space at once: plans drawn from `spaces/everything.yaml` come to effects, files and answers."""

from __future__ import annotations

import collections
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from support import REPOSITORY
from support.marks import long
from vitsearch import backbones, stages
from vitsearch.core.legality import reasons
from vitsearch.core.plan import Plan
from vitsearch.core.preprocessing import HALF
from vitsearch.core.resolve import BlockStructure, ResolvedPlan, Scores, resolve
from vitsearch.export import evaluate
from vitsearch.models.onnx_format import OPSET
from vitsearch.space import load
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.storage.files import FileStore
from vitsearch.study.sampling import PlanSpace

SPACE = Path(REPOSITORY, "spaces", "everything.yaml")
RESOLVED, BUILT, SEED = 2_000, 40, 0
IN_EACH_RUN = 3
"""Of the plans that are built; the others are long tests."""


supports = cache(backbones.supports)
"""A backbone is asked some hundred times for each plan, the same questions for every plan."""


@pytest.fixture(scope="module")
def plans() -> PlanSpace:
    return PlanSpace(load(SPACE).space, "local", supports, backbones.native_resolution)


@cache
def anatomy_of(spec: backbones.ModelSpec) -> BlockStructure:
    family = backbones.find(spec.backbone)
    return family.block_structure(family.build(spec).model, spec)


def effect_of(plan: Plan) -> ResolvedPlan:
    spec = backbones.ModelSpec(plan.backbone, plan.weights, plan.resolution, 10, 1, plan.window_size)
    block_structure = anatomy_of(spec)
    chance = random.Random(plan.backbone)
    heads = tuple(tuple(chance.random() for _ in range(block.heads)) for block in block_structure.blocks)
    ffn = tuple(tuple(chance.random() for _ in range(block.ffn_width)) for block in block_structure.blocks)
    depth = tuple(chance.random() for _ in block_structure.blocks)
    return resolve(
        plan,
        block_structure,
        Scores(heads, ffn, depth, tuple(chance.random() for _ in range(block_structure.embed_dim))),
    )


@pytest.mark.long
def test_two_thousand_plans_resolve(plans):
    seen = collections.Counter()
    chance = random.Random(SEED)
    for plan in (plans.random(chance) for _ in range(RESOLVED)):
        assert reasons(plan, supports) == []
        resolved = effect_of(plan)
        assert ResolvedPlan.from_json(resolved.to_json()) == resolved
        seen[plan.backbone] += 1
    assert set(seen) == set(plans.backbones())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> stages.Workspace:
    folder = tmp_path_factory.mktemp("everything")
    data = {"source": "builtin:fashion-mnist-14k", "root": None, "image_size": None, "channels": None}
    stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
    return stages.Workspace(data | {"validation_share": 0.1, "seed": 0}, *stores, folder / "cache")


@pytest.fixture(scope="module")
def sample(plans) -> list[Plan]:
    """Plans of every backbone, as evenly as the number allows."""
    chance, names, found = random.Random(SEED + 1), plans.backbones(), []
    while len(found) < BUILT:
        plan = plans.random(chance)
        if plan.backbone == names[len(found) % len(names)]:
            found.append(plan)
    return found


@pytest.mark.long
@pytest.mark.parametrize("index", [*range(IN_EACH_RUN), *long(*range(IN_EACH_RUN, BUILT))])
def test_a_plan_builds_exports_and_runs(sample, workspace, index):
    plan = sample[index]
    resolved = effect_of(plan)
    source = stages.Source(plan.backbone, plan.weights, plan.resolution, HALF, plan.window_size)
    sparse = Calibration(2, SEED) if resolved.weight_sparsity != "none" else None
    job = stages.ScreenJob(
        workspace,
        stages.CompressionSpec(source, resolved, "", Calibrations(sparsity=sparse)),
        plan.deployment,
        OPSET,
        Calibration(2, SEED),
    )
    graph = job.work()
    images = np.random.default_rng(SEED).normal(size=(3, 1, *plan.resolution.sides)).astype(np.float32)
    answers = evaluate.logits(workspace.scratch.model(graph.sha256), images, batch_size=1)
    assert answers.shape == (3, 10)
    assert np.isfinite(answers).all()
    assert graph.parity <= (1e-4 if plan.deployment.precision == "fp32" else 1.0)
    assert graph.macs_m > 0
