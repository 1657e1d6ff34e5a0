"""Every task on real parts: the committed base, Fashion-MNIST, torch-pruning, onnxruntime. Small numbers."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import get_type_hints

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vitsearch import backbones
from vitsearch.backbones.builtin import BUILTIN, FASHION_MNIST
from vitsearch.compress import sparse_file
from vitsearch.compress.quantization import quantize
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import PythonNetwork
from vitsearch.core.plan import Augmentation, Compression, Deployment, Plan, Recipe
from vitsearch.core.policy import POLICY
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.data.splits import Split
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import StageError
from vitsearch.export import evaluate
from vitsearch.pipeline import jobs
from vitsearch.pipeline.calibration import Calibration, Calibrations
from vitsearch.space import SearchSpace
from vitsearch.storage.files import FileStore
from vitsearch.study.sampling import PlanSpace
from vitsearch.tasks import CLASSIFICATION, Judged, Truth
from vitsearch.training import fine_tune, inference
from vitsearch.workers import images, models, tasks
from vitsearch_agent.base.npy import check_images

OPSET = 17
VALIDATION = 500
BUILTIN_VIT = jobs.Source("vit_fmnist_p4", "builtin", ImageSize.square(28), FASHION_MNIST)
RECIPE = Recipe((0, 1), 128, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0)
FP32 = Deployment("local", "onnxruntime", "cpu", "fp32")
CALIBRATION = Calibration(images=32, seed=0)
DATA = {
    "source": "builtin:fashion-mnist-14k",
    "root": None,
    "image_size": None,
    "channels": None,
    "validation_share": 0.1,
    "seed": 0,
    "holdout_images": 100,
}
UNKNOWN = jobs.Evaluation(qualities={}, divergence=math.inf, n=0)
"""A start that is worse than anything that follows."""


@pytest.fixture(scope="module", autouse=True)
def few_validation_images():
    """The first 500 of 2,000 validation images: most of the time of these tests is spent on them."""
    original = images._load_data

    @lru_cache
    def load(spec, cache):
        loaded = original(spec, cache)
        split = loaded.validation
        return replace(loaded, validation=Split.of(split.images[:VALIDATION], split.labels[:VALIDATION]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_load_data", load)
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> jobs.Workspace:
    folder = tmp_path_factory.mktemp("workshop")
    return jobs.Workspace(DATA, FileStore(folder / "artifacts"), FileStore(folder / "scratch"), folder / "cache")


@pytest.fixture(scope="module")
def base(workspace) -> jobs.Base:
    return tasks.prepare_base(jobs.BaseJob(workspace, BUILTIN_VIT, RECIPE))


@pytest.fixture(scope="module")
def source(workspace, base) -> jobs.Source:
    return jobs.Source(
        "vit_fmnist_p4", f"file:{workspace.store.get(base.weights_sha256)}", ImageSize.square(28), FASHION_MNIST
    )


@pytest.fixture(scope="module")
def block_structure(workspace, source) -> jobs.BlockStructureFound:
    return tasks.find_block_structure(jobs.BlockStructureJob(workspace, source, Calibration(32, 0)))


@pytest.fixture(scope="module")
def reference(workspace, source, base) -> jobs.Reference:
    logits = tasks.cache_logits(jobs.LogitsJob(workspace, source, "holdout", RECIPE)).sha256
    return jobs.Reference(logits, base.qualities)


@pytest.fixture(scope="module")
def cut(source, block_structure):
    """A function that makes the compression spec of a plan with these ratios."""

    def make(heads: float, ffn: float, precision: str = "fp32") -> jobs.CompressionSpec:
        plan = Plan(
            "vit_fmnist_p4",
            "builtin",
            ImageSize.square(28),
            None,
            Compression(heads, ffn, width_multiple=16),
            "logits",
            RECIPE,
            (replace(FP32, precision=precision),),
        )
        resolved = resolve(
            plan, BlockStructure.from_json(block_structure.block_structure), Scores.from_json(block_structure.scores)
        )
        return jobs.CompressionSpec(source, resolved, block_structure.statistics_sha256)

    return make


@pytest.fixture(scope="module")
def fewer_tokens(cut):
    """A function that makes the spec of a model with fewer than 50 tokens, whose heads and channels are cut too."""

    def make(method: str, tokens: tuple[int, ...]) -> jobs.CompressionSpec:
        spec = cut(0.33, 0.5)
        return replace(spec, resolved=replace(spec.resolved, tokens=tokens, token_pruning_method=method))

    return make


def test_every_job_has_exactly_one_task():
    stages = {kind for kind in vars(jobs).values() if isinstance(kind, type) and issubclass(kind, jobs.Job)}
    assert tasks.TASKS.keys() == {stage for stage in stages if hasattr(stage, "stage")}
    assert len(set(tasks.TASKS.values())) == len(tasks.TASKS)
    assert {task: get_type_hints(task)["job"] for task in tasks.TASKS.values()} == {
        task: job for job, task in tasks.TASKS.items()
    }


@pytest.mark.long
def test_an_exported_file_says_what_its_input_and_its_classes_are(workspace, cut):
    job = jobs.ScreenJob(workspace, cut(0.33, 0.5), FP32, OPSET, CALIBRATION, artifact_key="ab" * 32)
    graph = tasks.build_graph(job)
    said = {entry.key: entry.value for entry in onnx.load(workspace.scratch.model(graph.sha256)).metadata_props}
    assert said.keys() == {"vitsearch.artifact_key", "vitsearch.labels", "vitsearch.preprocessing"}
    assert said["vitsearch.artifact_key"] == "ab" * 32
    assert json.loads(said["vitsearch.labels"])[0] == "T-shirt/top"
    assert json.loads(said["vitsearch.preprocessing"]) == BUILTIN_VIT.view.settings(ImageSize.square(28), 1)
    other = tasks.build_graph(replace(job, artifact_key="cd" * 32))
    assert other.structure == graph.structure  # one measurement serves both
    assert other.sha256 != graph.sha256


def test_the_data_is_described_without_its_pixels(workspace):
    description = tasks.describe_data(jobs.DataJob(workspace)).description
    assert len(description["class_names"]) == 10
    assert len(description["fingerprint"]) == 64


@pytest.mark.long
def test_a_base_that_knows_the_classes_is_not_trained(base):
    assert base.qualities["accuracy"] > 0.88
    assert base.n == VALIDATION


@pytest.mark.long
def test_the_block_structure_is_that_of_the_base(block_structure):
    blocks = BlockStructure.from_json(block_structure.block_structure).blocks
    assert [(block.heads, block.head_dim, block.ffn_width) for block in blocks] == [(6, 32, 768)] * 6
    assert all(len(row) == 768 for row in block_structure.scores["ffn"])


@pytest.fixture
def screened(workspace, cut):
    def build(heads: float, ffn: float, precision: str = "fp32", calibration=CALIBRATION) -> jobs.ExportedGraph:
        spec, deployment = cut(heads, ffn, precision), replace(FP32, precision=precision)
        return tasks.build_graph(jobs.ScreenJob(workspace, spec, deployment, OPSET, calibration))

    return build


@pytest.mark.parametrize("precision", ["int8_dynamic", "int8_ptq"])
@pytest.mark.long
def test_cutting_shrinks_the_graph_and_int8_shrinks_the_file(precision, workspace, screened):
    whole, half, int8 = screened(0, 0), screened(0.5, 0.5), screened(0.5, 0.5, precision)
    assert half.macs_m < 0.6 * whole.macs_m
    assert half.params_m < 0.6 * whole.params_m
    assert int8.size_bytes < 0.4 * half.size_bytes
    assert whole.parity <= 1e-4
    onnxruntime.InferenceSession(str(workspace.scratch.model(int8.sha256)), providers=["CPUExecutionProvider"])


@pytest.mark.long
def test_static_int8_is_calibrated_on_seeded_training_images(workspace, screened, monkeypatch):
    seen, original = [], quantize.quantize

    def watched(onnx_in, onnx_out, precision, images, *more):
        seen.append(images)
        original(onnx_in, onnx_out, precision, images, *more)

    monkeypatch.setattr(quantize, "quantize", watched)
    calibrations = CALIBRATION, CALIBRATION, replace(CALIBRATION, seed=1)
    first, again, other = (screened(0, 0, "int8_ptq", calibration) for calibration in calibrations)
    assert first.sha256 == again.sha256
    assert first.sha256 != other.sha256
    about = tasks.describe_data(jobs.DataJob(workspace)).description
    pixels = np.rint((seen[0] * about["std"][0] + about["mean"][0]) * 255).astype(np.uint8)
    with np.load(str(resources.files("vitsearch") / "assets" / "fashion_mnist_14k.npz")) as archive:
        train = {image.tobytes() for image in archive["train_images"]}
    assert pixels.shape == (CALIBRATION.images, 1, 28, 28)
    assert all(image.tobytes() in train for image in pixels)


def test_what_can_be_cut_is_known_without_images_and_without_trained_weights(workspace, block_structure, monkeypatch):
    monkeypatch.setattr(tasks, "drawn", None)
    untrained = jobs.Source("vit_fmnist_p4", "none", ImageSize.square(28), FASHION_MNIST)
    structure = tasks.find_block_structure(jobs.BlockStructureJob(workspace, untrained, None))
    assert structure.block_structure == block_structure.block_structure
    assert structure.statistics_sha256 == ""
    assert {score for row in structure.scores["ffn"] for score in row} == {1.0}


def test_the_proxy_of_an_uncut_model_has_no_divergence(workspace, cut, reference):
    seen = tasks.score_proxy(jobs.ProxyJob(workspace, cut(0, 0), reference))
    assert seen.divergence == pytest.approx(0.0, abs=1e-6)


def test_the_proxy_ranks_a_light_cut_before_a_heavy_one(workspace, cut, reference):
    light = tasks.score_proxy(jobs.ProxyJob(workspace, cut(0, 0.5), reference))
    heavy = tasks.score_proxy(jobs.ProxyJob(workspace, cut(0.67, 0.875), reference))
    assert light.divergence < heavy.divergence
    assert light.n == 100


def test_outputs_that_are_no_numbers_are_no_score(workspace, cut, reference, monkeypatch):
    """The largest of 0 and NaN is 0, which would be the best divergence."""
    monkeypatch.setattr(tasks, "predict", lambda *_: np.full((100, 10), np.nan, np.float32))
    with pytest.raises(StageError, match="diverge by nan from those of the unpruned model") as raised:
        tasks.score_proxy(jobs.ProxyJob(workspace, cut(0, 0.5), reference))
    assert (raised.value.stage, raised.value.kind) == ("proxy", "not_finite")


@pytest.fixture(scope="module")
def trained(workspace, source, cut, reference) -> jobs.Trained:
    targets = jobs.DistillationTargets(
        "logits", tasks.cache_logits(jobs.LogitsJob(workspace, source, "train", RECIPE)).sha256
    )
    return tasks.train_rung(jobs.TrainJob(workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, targets, reference, UNKNOWN))


@pytest.mark.long
def test_training_never_ends_worse_than_its_start(workspace, cut, reference, trained):
    before = tasks.score_proxy(jobs.ProxyJob(workspace, cut(0.67, 0.875), reference))
    assert trained.steps == 4
    best = jobs.Evaluation(before.qualities, 0.0, before.n)
    job = jobs.TrainJob(
        workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, jobs.DistillationTargets("none"), reference, best
    )
    again = tasks.train_rung(job)
    assert (again.kept, again.evaluation) == ("start", best)
    start = models.refitted(cut(0.67, 0.875), workspace).state_dict()
    kept = load_file(workspace.store.get(again.checkpoint_sha256))
    assert all(torch.equal(kept[name], value) for name, value in start.items())


@pytest.mark.long
def test_a_rung_keeps_what_diverges_least_of_its_end_and_its_average(workspace, cut, reference, monkeypatch):
    targets, seen = jobs.DistillationTargets("none"), []
    job = jobs.TrainJob(workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, targets, reference, UNKNOWN)
    judge = tasks._judged
    monkeypatch.setattr(tasks, "_judged", lambda *arguments: seen.append(judge(*arguments)) or seen[-1])
    trained = tasks.train_rung(job)
    last, average = seen
    assert trained.evaluation == min(seen, key=lambda end: end.divergence)
    assert trained.kept == ("last" if last.divergence <= average.divergence else "average")


@pytest.mark.parametrize(("keeps", "kept"), [("nearest", "start"), ("best", "last")])
def test_a_rung_that_learns_of_a_better_model_keeps_the_best_end(workspace, cut, reference, monkeypatch, keeps, kept):
    """Learning leads away from the base, and to a higher accuracy."""
    start = jobs.Evaluation({"accuracy": 0.80}, 0.01, 1000)
    ends = [jobs.Evaluation({"accuracy": 0.83}, 0.03, 1000), jobs.Evaluation({"accuracy": 0.82}, 0.02, 1000)]
    monkeypatch.setattr(tasks, "_judged", lambda *_: ends.pop(0))
    targets = jobs.DistillationTargets("none")
    job = jobs.TrainJob(workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, targets, reference, start, keeps=keeps)
    assert tasks.train_rung(job).kept == kept


def test_nothing_learns_from_the_holdout(workspace, source, base, cut, monkeypatch):
    loaded = images.load_data(workspace)
    assert len(loaded.holdout) == 100
    pool = fine_tune.training_pool(loaded.learned, replace(RECIPE, images_per_epoch=10**6))
    drawn = images.drawn_rows(loaded, Calibration(10**6, 0))
    assert set(loaded.holdout.tolist()).isdisjoint([*pool.tolist(), *drawn.tolist()])
    assert len(pool) == len(drawn) == len(loaded.train) - 100


def test_a_base_is_as_accurate_as_on_the_validation_split(workspace, cut, base, reference):
    """Though it has seen the holdout in its training. A model that is far from it has forgotten that."""
    seen = tasks.score_proxy(jobs.ProxyJob(workspace, cut(0, 0), reference))
    assert seen.qualities == pytest.approx(base.qualities, abs=1e-4)
    heavy = jobs.ProxyJob(workspace, cut(0.67, 0.875), reference)
    worse = {name: value - 0.1 for name, value in reference.qualities.items()}
    far = tasks.score_proxy(replace(heavy, reference=replace(reference, qualities=worse)))
    kept = math.exp(-far.divergence / POLICY.rung_zero.forgetting_kl)
    assert 0 < kept < 0.5
    near = tasks.score_proxy(heavy).qualities
    assert {name: near[name] - value for name, value in far.qualities.items()} == pytest.approx(
        dict.fromkeys(base.qualities, 0.1 * kept)
    )


@pytest.mark.long
def test_the_exported_artifact_reports_its_own_accuracy(workspace, cut, trained):
    exported = tasks.export_artifact(
        jobs.ExportJob(workspace, cut(0.67, 0.875), FP32, OPSET, CALIBRATION, trained.checkpoint_sha256)
    )
    assert exported.n == VALIDATION
    assert exported.judged.values["accuracy"] == pytest.approx(trained.evaluation.qualities["accuracy"], abs=0.15)
    assert load_file(workspace.store.get(trained.checkpoint_sha256))["blocks.0.mlp.fc1.weight"].shape == (96, 192)


@pytest.mark.long
def test_an_artifact_that_predicts_one_class_only_names_it(workspace, cut, trained, tmp_path):
    assert _exported(workspace, cut, trained.checkpoint_sha256).judged.figures["accuracy"].note is None
    weights = load_file(workspace.store.get(trained.checkpoint_sha256))
    weights["head.weight"].zero_()
    weights["head.bias"] = torch.eye(10)[6]
    save_file(weights, tmp_path / "constant.safetensors")
    constant = workspace.store.put(tmp_path / "constant.safetensors")
    accuracy = _exported(workspace, cut, constant).judged.figures["accuracy"]
    assert accuracy.note == "the model predicts one class only, 'Shirt'"


def _exported(workspace, cut, checkpoint_sha256) -> jobs.Exported:
    return tasks.export_artifact(
        jobs.ExportJob(workspace, cut(0.67, 0.875), FP32, OPSET, CALIBRATION, checkpoint_sha256)
    )


@pytest.mark.long
def test_dynamic_int8_is_judged_at_the_batch_it_is_measured_at(workspace, cut, trained):
    """Activations of a run share one scale, so another batch gives other logits and often another accuracy."""
    spec, deployment = cut(0.67, 0.875), replace(FP32, precision="int8_dynamic")
    job = jobs.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, trained.checkpoint_sha256)
    exported = tasks.export_artifact(job)
    loaded, path = images.load_data(workspace), workspace.store.model(exported.graph.sha256)
    inputs = to_tensor(loaded.validation.images, ImageSize.square(28), Preprocessing(loaded.mean, loaded.std)).numpy()

    def judged(batch: int) -> Judged:
        truth = Truth(loaded.validation.labels, loaded.class_names)
        return CLASSIFICATION.judge(evaluate.logits(path, inputs, batch), truth)

    assert exported.judged == judged(1)
    assert tasks.export_artifact(replace(job, batch=100)).judged == judged(100)


@pytest.mark.long
def test_a_model_of_fewer_tokens_goes_through_every_stage(workspace, source, cut, fewer_tokens, reference):
    """dynamicvit covers the other methods, and has weights of its own that are fitted and trained."""
    spec = fewer_tokens("dynamicvit", (50, 26, 26, 14, 14, 14))
    spec = replace(spec, calibrations=Calibrations(token_predictors=Calibration(64, 0)))
    deployment = replace(FP32, precision="int8_dynamic")
    graph = tasks.build_graph(jobs.ScreenJob(workspace, spec, deployment, OPSET, CALIBRATION))
    whole = tasks.build_graph(jobs.ScreenJob(workspace, cut(0.33, 0.5), FP32, OPSET, CALIBRATION))
    assert graph.macs_m < 0.75 * whole.macs_m
    assert graph.params_m == pytest.approx(whole.params_m + 2 * 0.0606, abs=1e-3)
    assert tasks.score_proxy(jobs.ProxyJob(workspace, spec, reference)).qualities["accuracy"] > 0.6
    teacher = tasks.cache_logits(jobs.LogitsJob(workspace, source, "train", RECIPE)).sha256
    targets = jobs.DistillationTargets("logits", outputs_sha256=teacher)
    trained = tasks.train_rung(jobs.TrainJob(workspace, spec, RECIPE, 0, 1, None, targets, reference, UNKNOWN))
    exported = tasks.export_artifact(
        jobs.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, trained.checkpoint_sha256)
    )
    assert exported.judged.values["accuracy"] == pytest.approx(trained.evaluation.qualities["accuracy"], abs=0.15)


STRUCTURE = {
    "embed_pruning_ratio": 0.25,
    "depth_pruning_ratio": {"low": 0.34, "high": 0.34, "step": 0.1},
    "ffn_pruning_ratio": 0.5,
    "pruning_scope": "isomorphic",
    "distillation": "none",
}


@pytest.mark.long
def test_a_sampled_plan_of_fewer_blocks_and_channels_goes_through_every_stage(
    workspace, source, block_structure, cut, reference
):
    """With isomorphic ranking and static int8."""
    space = {
        "backbone": "vit_fmnist_p4", "resolution": 28, "width_multiple": 16, "quantization": "int8_ptq",
    } | STRUCTURE  # fmt: skip
    file = {"study": "x", "task": {"data": {"source": "builtin:fashion-mnist-14k"}}, "space": space}
    parsed = SearchSpace.model_validate(file | {"objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"}})
    plan = PlanSpace(parsed, "local", backbones.supports, backbones.native_resolution).random(random.Random(0))
    assert (plan.compression.depth_pruning_ratio, plan.compression.scope) == (0.34, "isomorphic")
    parts, scores = BlockStructure.from_json(block_structure.block_structure), Scores.from_json(block_structure.scores)
    resolved = resolve(plan, parts, scores)
    left = [index for index, block in enumerate(resolved.blocks) if block.heads]
    assert set(range(6)) - set(left) == set(sorted(range(6), key=lambda block: scores.depth[block])[:2])
    assert len({len(resolved.blocks[index].ffn) for index in left}) > 1
    refit = Calibrations.of(resolved, parts, 28, Calibration(64, 0)).refit
    spec = jobs.CompressionSpec(source, resolved, block_structure.statistics_sha256, Calibrations(refit=refit))
    graph = tasks.build_graph(jobs.ScreenJob(workspace, spec, plan.deployment, OPSET, CALIBRATION))
    half = tasks.build_graph(jobs.ScreenJob(workspace, cut(0, 0.5), FP32, OPSET, CALIBRATION))
    assert len(resolved.embed) == 144
    assert graph.macs_m < 0.75**2 * half.macs_m
    assert graph.params_m < 0.75**2 * half.params_m
    unfitted = tasks.score_proxy(jobs.ProxyJob(workspace, replace(spec, calibrations=Calibrations()), reference))
    fitted = tasks.score_proxy(jobs.ProxyJob(workspace, spec, reference))
    assert fitted.divergence < 0.7 * unfitted.divergence
    trained = tasks.train_rung(
        jobs.TrainJob(workspace, spec, RECIPE, 0, 1, None, jobs.DistillationTargets("none"), reference, UNKNOWN)
    )
    exported = tasks.export_artifact(
        jobs.ExportJob(workspace, spec, plan.deployment, OPSET, CALIBRATION, trained.checkpoint_sha256)
    )
    assert exported.judged.values["accuracy"] == pytest.approx(trained.evaluation.qualities["accuracy"], abs=0.15)


@pytest.mark.long
def test_a_sparse_model_stays_sparse_through_every_stage(workspace, cut, reference):
    """A model of fewer heads and channels, trained, then trained for int8: the file has the pattern."""
    dense, few = cut(0.33, 0.5, "int8_qat"), Calibration(64, 0)
    spec = replace(dense, resolved=replace(dense.resolved, weight_sparsity="2:4"))
    spec = replace(spec, calibrations=Calibrations(refit=few, sparsity=few))
    deployment, targets = replace(FP32, precision="int8_qat"), jobs.DistillationTargets("none")
    graph = tasks.build_graph(jobs.ScreenJob(workspace, spec, deployment, OPSET, CALIBRATION))
    assert tasks.score_proxy(jobs.ProxyJob(workspace, spec, reference)).qualities["accuracy"] > 0.6
    trained = tasks.train_rung(jobs.TrainJob(workspace, spec, RECIPE, 0, 1, None, targets, reference, UNKNOWN))
    start = trained.checkpoint_sha256
    rounded = tasks.train_quantized(
        jobs.QatJob(workspace, spec, RECIPE, 1, 2, start, targets, reference, UNKNOWN, CALIBRATION)
    )
    job = jobs.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, rounded.checkpoint_sha256)
    for path in (workspace.scratch.model(graph.sha256), workspace.store.model(tasks.export_artifact(job).graph.sha256)):
        sparse = [zero for zero in sparse_file.zeros(path) if (zero.reshape(-1, 4).sum(1) >= 2).all()]
        assert len(sparse) == 4 * 6


@pytest.mark.long
def test_training_for_int8_starts_from_a_rung_and_its_file_agrees_with_it(workspace, cut, reference):
    spec, targets = cut(0.33, 0.5, "int8_qat"), jobs.DistillationTargets("none")
    rung = jobs.TrainJob(workspace, spec, RECIPE, 0, 1, None, targets, reference, UNKNOWN)
    start = tasks.train_rung(rung).checkpoint_sha256
    job = jobs.QatJob(workspace, spec, RECIPE, 1, 1.5, start, targets, reference, UNKNOWN, CALIBRATION)
    seen = tasks.train_quantized(job)
    assert seen.steps == 2
    before, after = (load_file(workspace.store.get(sha256)) for sha256 in (start, seen.checkpoint_sha256))
    assert before.keys() < after.keys()
    assert seen.kept == "start" or not np.array_equal(before["head.weight"], after["head.weight"])
    deployment = replace(FP32, precision="int8_qat")
    exported = tasks.export_artifact(
        jobs.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, seen.checkpoint_sha256)
    )
    assert 0 < exported.graph.parity < 0.02
    screened = tasks.build_graph(jobs.ScreenJob(workspace, spec, deployment, OPSET, CALIBRATION))
    costs = [(graph.macs_m, graph.params_m, graph.size_bytes) for graph in (screened, exported.graph)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)


@pytest.mark.long
def test_a_mixed_precision_leaves_the_named_layers_of_a_cut_model_in_fp32(workspace, source, cut, screened):
    stored = tasks.study_sensitivity(jobs.SensitivityJob(workspace, source, Calibration(16, 0)))
    sensitivity = json.loads(workspace.store.get(stored.sha256).read_text())
    assert len(sensitivity) == 4 * 6 + 1
    spec = cut(0.5, 0.5, "int8_mixed")
    named = replace(spec, resolved=replace(spec.resolved, fp32_layers=("blocks.1.mlp.fc1", "head")))
    deployment = replace(FP32, precision="int8_mixed")
    graph = tasks.build_graph(jobs.ScreenJob(workspace, named, deployment, OPSET, CALIBRATION))
    kinds = Counter(node.op_type for node in onnx.load(workspace.scratch.model(graph.sha256)).graph.node)
    assert kinds["MatMulIntegerToFloat"] == 4 * 6 + 1 - 2
    assert screened(0.5, 0.5, "int8_ptq").size_bytes < graph.size_bytes < screened(0.5, 0.5).size_bytes


@pytest.mark.long
def test_static_int8_of_the_base_keeps_its_accuracy(workspace, cut, base):
    deployment = replace(FP32, precision="int8_ptq")
    job = jobs.ExportJob(workspace, cut(0, 0, "int8_ptq"), deployment, OPSET, CALIBRATION, None)
    exported = tasks.export_artifact(job)
    assert exported.judged.values["accuracy"] >= base.qualities["accuracy"] - 0.01


@pytest.mark.long
def test_an_augmented_rung_uses_the_live_teacher(workspace, source, cut, reference, trained):
    views = replace(RECIPE, augmentation=Augmentation(flip=0.5, crop=0.7))
    targets = jobs.DistillationTargets("logits", live_teacher=source)
    job = jobs.TrainJob(workspace, cut(0.67, 0.875), views, 0, 1, None, targets, reference, UNKNOWN)
    seen = tasks.train_rung(job)
    assert seen.steps == 4
    assert seen.kept != "start"
    assert seen.checkpoint_sha256 != trained.checkpoint_sha256


@pytest.mark.long
def test_a_rung_with_hints_reads_the_cached_features(workspace, source, cut, reference, trained):
    logits = tasks.cache_logits(jobs.LogitsJob(workspace, source, "train", RECIPE)).sha256
    features = tasks.cache_features(jobs.FeaturesJob(workspace, source, "train", RECIPE)).sha256
    targets = jobs.DistillationTargets("feature", logits, features)
    seen = tasks.train_rung(jobs.TrainJob(workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, targets, reference, UNKNOWN))
    assert np.load(workspace.store.get(features)).shape == (len(np.load(workspace.store.get(logits))), 192)
    assert seen.checkpoint_sha256 != trained.checkpoint_sha256


@pytest.mark.long
def test_the_student_may_be_smaller_than_its_teacher(workspace, source, reference):
    """The teacher's logits are computed at its own resolution."""
    small = replace(source, resolution=ImageSize.square(24))
    structure = tasks.find_block_structure(jobs.BlockStructureJob(workspace, small, Calibration(32, 0)))
    plan = Plan("vit_fmnist_p4", "builtin", ImageSize.square(24), None, Compression(), "logits", RECIPE, (FP32,))
    resolved = resolve(plan, BlockStructure.from_json(structure.block_structure), Scores.from_json(structure.scores))
    spec = jobs.CompressionSpec(small, resolved, structure.statistics_sha256)
    recipe = replace(RECIPE, frozen_blocks=2, layer_decay=0.75, gradient_checkpointing=True)
    teacher = tasks.cache_logits(jobs.LogitsJob(workspace, source, "train", recipe)).sha256
    seen = tasks.train_rung(
        jobs.TrainJob(
            workspace, spec, recipe, 0, 1, None, jobs.DistillationTargets("logits", teacher), reference, UNKNOWN
        )
    )
    assert seen.steps == 4
    start = load_file(source.weights.removeprefix("file:"))
    after = load_file(workspace.store.get(seen.checkpoint_sha256))
    same = {name for name in start if start[name].shape == after[name].shape and (start[name] == after[name]).all()}
    assert {"blocks.1.mlp.fc1.weight", "patch_embed.proj.weight"} <= same
    assert {"blocks.2.mlp.fc1.weight", "head.weight"}.isdisjoint(same)


@pytest.mark.long
def test_recalibrated_batch_norms_come_nearer_to_the_base_at_another_resolution(workspace):
    small = jobs.Source("efficientvit_fmnist", "builtin", ImageSize.square(20), FASHION_MNIST)
    structure = tasks.find_block_structure(jobs.BlockStructureJob(workspace, small, Calibration(32, 0)))
    plan = Plan("efficientvit_fmnist", "builtin", ImageSize.square(20), None, Compression(), "logits", RECIPE, (FP32,))
    resolved = resolve(plan, BlockStructure.from_json(structure.block_structure), Scores.from_json(structure.scores))
    unchanged = jobs.CompressionSpec(small, resolved, structure.statistics_sha256)
    few = replace(workspace, data=DATA | {"holdout_images": 500})
    logits = tasks.cache_logits(
        jobs.LogitsJob(few, replace(small, resolution=ImageSize.square(28)), "holdout", RECIPE)
    ).sha256
    recalibrated = replace(unchanged, calibrations=Calibrations(batch_norms=Calibration(512, 0)))
    before, after = (
        tasks.score_proxy(jobs.ProxyJob(few, spec, jobs.Reference(logits, BUILTIN[small.backbone].qualities)))
        for spec in (unchanged, recalibrated)
    )
    assert after.divergence < 0.8 * before.divergence


def test_batch_norms_are_recalibrated_in_the_base_before_the_cut(workspace):
    """Recalibrated after the cut they would adapt to its errors, and no fit knows their scale."""
    small, whole = jobs.Source("efficientvit_fmnist", "builtin", ImageSize.square(20), FASHION_MNIST), Compression()
    structure = tasks.find_block_structure(jobs.BlockStructureJob(workspace, small, Calibration(32, 0)))
    variances = []
    for cut in (whole, replace(whole, ffn_pruning_ratio=0.5)):
        plan = Plan("efficientvit_fmnist", "builtin", ImageSize.square(20), None, cut, "logits", RECIPE, (FP32,))
        resolved = resolve(
            plan, BlockStructure.from_json(structure.block_structure), Scores.from_json(structure.scores)
        )
        model = models.refitted(
            jobs.CompressionSpec(small, resolved, structure.statistics_sha256, Calibrations(Calibration(64, 0))),
            workspace,
        ).state_dict()
        variances.append({name: value for name, value in model.items() if name.endswith("running_var")})
    uncut = [name for name, value in variances[0].items() if value.shape == variances[1][name].shape]
    assert len(uncut) < len(variances[0])
    assert all(torch.equal(*(of[name] for of in variances)) for name in uncut)


def test_cached_logits_are_those_of_the_pool_in_its_order(workspace, source):
    logits = np.load(workspace.store.get(tasks.cache_logits(jobs.LogitsJob(workspace, source, "train", RECIPE)).sha256))
    split = images.load_data(workspace).train
    pool = fine_tune.training_pool(images.load_data(workspace).learned, RECIPE)
    assert logits.shape == (128, 10)
    assert inference.accuracy(logits, split.labels[pool]) > 0.85


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_visible_gpu_is_used(monkeypatch, there, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert images.torch_device() == device


def test_a_model_is_moved_to_the_device_of_the_worker_to_predict(workspace, source, monkeypatch):
    monkeypatch.setattr(images, "torch_device", lambda: "meta")
    loaded, model = images.load_data(workspace), models.base_model(source, workspace)
    with pytest.raises(NotImplementedError, match="meta tensor"):  # its results cannot be copied back
        images.predict(model, loaded.validation.images[:4], source.view)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.long
def test_a_base_for_other_classes_is_trained(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("dark", "light"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(20):
            pixels = draw.integers(0, 100, (28, 28), dtype=np.uint8) + (150 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name / f"{index}.png")
    data = DATA | {"source": "folder", "root": str(tmp_path / "images"), "image_size": 28}
    folder = Path(tmp_path)
    workspace = jobs.Workspace(data, FileStore(folder / "artifacts"), FileStore(folder / "scratch"), folder / "cache")
    recipe = replace(RECIPE, rungs=(0, 3), images_per_epoch=0, batch_size=8, lr=1e-3)
    base = tasks.prepare_base(jobs.BaseJob(workspace, BUILTIN_VIT, recipe))
    weights = load_file(workspace.store.get(base.weights_sha256))
    assert weights["head.weight"].shape == (2, 192)
    assert base.n == 4
    assert base.qualities["accuracy"] == base.qualities["recall_min"] == 1.0  # dark or light
    assert "accuracy_top5" not in base.qualities
    longer = replace(recipe, rungs=(0, 4), augmentation=Augmentation(flip=0.5), layer_decay=0.75, label_smoothing=0.1)
    again = tasks.prepare_base(jobs.BaseJob(workspace, BUILTIN_VIT, longer))
    assert again.qualities["accuracy"] == 1.0
    assert again.weights_sha256 != base.weights_sha256


def test_a_base_names_the_state_of_its_file_that_it_starts_from(workspace, tmp_path):
    state, path = load_file(BUILTIN["vit_fmnist_p4"].path()), tmp_path / "last.pth"
    torch.save(
        {"state_dict": {name: torch.zeros_like(value) for name, value in state.items()}, "model_ema": state}, path
    )
    base = tasks.prepare_base(jobs.BaseJob(workspace, replace(BUILTIN_VIT, weights=f"file:{path}"), RECIPE))
    assert base.note is not None
    assert base.note.startswith(f"{path} holds weights as model_ema and state_dict: model_ema is used")
    assert base.qualities["accuracy"] > 0.88


@pytest.mark.long
def test_a_subset_lies_evenly_over_the_validation_images_as_the_model_takes_them(workspace, source):
    stored_images = workspace.store.get(tasks.make_subset(jobs.SubsetJob(workspace, source.view, 40)).sha256)
    labels = workspace.store.get(tasks.make_subset(jobs.SubsetJob(workspace, None, 40)).sha256)
    assert check_images(str(stored_images)).shape[0] == 40
    split = images.load_data(workspace).validation
    rows = [12 * number + number // 2 for number in range(40)]  # of 500
    assert (np.load(labels) == split.labels[rows]).all()
    model = models.base_model(source, workspace)
    logits = images.predict(model, split.images[rows], source.view)
    with torch.inference_mode():
        output = model(torch.from_numpy(np.load(stored_images)))
    np.testing.assert_allclose(output.numpy(), logits, atol=1e-4)


def test_a_base_of_one_shape_is_cut_trained_and_exported_in_another(workspace):
    """Its positions are those of a grid of 7 x 5 patches, and the plan has one of 5 x 7: as many."""
    tall, wide = ImageSize(28, 20), ImageSize(20, 28)
    start = replace(BUILTIN_VIT, resolution=tall)
    base = tasks.prepare_base(jobs.BaseJob(workspace, start, RECIPE))
    unpruned = replace(start, weights=f"{jobs.STORED}{base.weights_sha256}", trained_at=tall)
    assert base.qualities["accuracy"] > 0.6
    logits = tasks.cache_logits(jobs.LogitsJob(workspace, unpruned, "holdout", RECIPE)).sha256
    source = replace(unpruned, resolution=wide)
    structure = tasks.find_block_structure(jobs.BlockStructureJob(workspace, source, CALIBRATION))
    cut = Compression(0.33, 0.5, token_pruning_ratio=0.3, token_pruning_method="topk", width_multiple=16)
    plan = Plan("vit_fmnist_p4", "builtin", wide, None, cut, "none", RECIPE, (FP32,))
    resolved = resolve(plan, BlockStructure.from_json(structure.block_structure), Scores.from_json(structure.scores))
    spec = jobs.CompressionSpec(source, resolved, structure.statistics_sha256)
    reference = jobs.Reference(logits, base.qualities)
    trained = tasks.train_rung(
        jobs.TrainJob(workspace, spec, RECIPE, 0, 1, None, jobs.DistillationTargets("none"), reference, UNKNOWN)
    )
    job = jobs.ExportJob(workspace, spec, FP32, OPSET, CALIBRATION, trained.checkpoint_sha256)
    exported = tasks.export_artifact(job)
    assert exported.graph.parity <= 1e-5
    assert exported.judged.values["accuracy"] > 0.6
    shape = onnx.load(workspace.store.model(exported.graph.sha256)).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in shape][1:] == [1, 20, 28]


TIED = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 4, 4)
        self.first, self.second = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.second.weight = self.first.weight
        self.out = nn.Linear(16, classes)

    def forward(self, x):
        return self.out(self.second(self.first(self.stem(x)).relu()).mean((2, 3)))

def make(classes, channels):
    return Net(classes, channels)
"""


def test_a_network_whose_layers_share_weights_is_stored(workspace, tmp_path):
    (tmp_path / "tied_network.py").write_text(TIED)
    network = PythonNetwork("tied", "tied_network:make", str(tmp_path), ImageSize.square(28))
    source = jobs.Source("tied", "none", ImageSize.square(28), FASHION_MNIST)
    base = tasks.prepare_base(jobs.BaseJob(replace(workspace, networks=(network,)), source, RECIPE))
    stored = load_file(workspace.store.get(base.weights_sha256))
    assert np.array_equal(stored["first.weight"], stored["second.weight"])
