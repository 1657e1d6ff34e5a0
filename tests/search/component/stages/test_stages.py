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

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vitsearch import backbones, stages
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
from vitsearch.space import SearchSpace
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.stages.parts import images, judging, models
from vitsearch.storage.files import FileStore
from vitsearch.study.sampling import PlanSpace
from vitsearch.tasks import CLASSIFICATION, Judged, Truth
from vitsearch.training import fine_tune, inference
from vitsearch_agent.base.npy import check_images

OPSET = 17
VALIDATION = 500
BUILTIN_VIT = stages.Source("vit_fmnist_p4", "builtin", ImageSize.square(28), FASHION_MNIST)
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
UNKNOWN = stages.Evaluation(qualities={}, divergence=math.inf, n=0)
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
def workspace(tmp_path_factory) -> stages.Workspace:
    folder = tmp_path_factory.mktemp("workshop")
    return stages.Workspace(DATA, FileStore(folder / "artifacts"), FileStore(folder / "scratch"), folder / "cache")


@pytest.fixture(scope="module")
def base(workspace) -> stages.Base:
    return stages.BaseJob(workspace, BUILTIN_VIT, RECIPE).work()


@pytest.fixture(scope="module")
def source(workspace, base) -> stages.Source:
    return stages.Source(
        "vit_fmnist_p4", f"file:{workspace.store.get(base.weights_sha256)}", ImageSize.square(28), FASHION_MNIST
    )


@pytest.fixture(scope="module")
def block_structure(workspace, source) -> stages.BlockStructureFound:
    return stages.BlockStructureJob(workspace, source, Calibration(32, 0)).work()


@pytest.fixture(scope="module")
def reference(workspace, source, base) -> stages.Reference:
    logits = stages.LogitsJob(workspace, source, "holdout", RECIPE).work().sha256
    return stages.Reference(logits, base.qualities)


@pytest.fixture(scope="module")
def cut(source, block_structure):
    """A function that makes the compression spec of a plan with these ratios."""

    def make(heads: float, ffn: float, precision: str = "fp32") -> stages.CompressionSpec:
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
        return stages.CompressionSpec(source, resolved, block_structure.statistics_sha256)

    return make


@pytest.fixture(scope="module")
def fewer_tokens(cut):
    """A function that makes the spec of a model with fewer than 50 tokens, whose heads and channels are cut too."""

    def make(method: str, tokens: tuple[int, ...]) -> stages.CompressionSpec:
        spec = cut(0.33, 0.5)
        return replace(spec, resolved=replace(spec.resolved, tokens=tokens, token_pruning_method=method))

    return make


def test_every_job_has_a_stage_and_a_work_of_its_own():
    jobs = [kind for kind in vars(stages).values() if isinstance(kind, type) and issubclass(kind, stages.Job)]
    jobs.remove(stages.Job)
    assert len({job.stage for job in jobs}) == len(jobs)
    assert all(job.work is not stages.Job.work for job in jobs)


@pytest.mark.long
def test_an_exported_file_says_what_its_input_and_its_classes_are(workspace, cut):
    job = stages.ScreenJob(workspace, cut(0.33, 0.5), FP32, OPSET, CALIBRATION, artifact_key="ab" * 32)
    graph = job.work()
    said = {entry.key: entry.value for entry in onnx.load(workspace.scratch.model(graph.sha256)).metadata_props}
    assert said.keys() == {"vitsearch.artifact_key", "vitsearch.labels", "vitsearch.preprocessing"}
    assert said["vitsearch.artifact_key"] == "ab" * 32
    assert json.loads(said["vitsearch.labels"])[0] == "T-shirt/top"
    assert json.loads(said["vitsearch.preprocessing"]) == BUILTIN_VIT.view.settings(ImageSize.square(28), 1)
    other = replace(job, artifact_key="cd" * 32).work()
    assert other.structure == graph.structure  # one measurement serves both
    assert other.sha256 != graph.sha256


def test_the_data_is_described_without_its_pixels(workspace):
    description = stages.DataJob(workspace).work().description
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
    def build(heads: float, ffn: float, precision: str = "fp32", calibration=CALIBRATION) -> stages.ExportedGraph:
        spec, deployment = cut(heads, ffn, precision), replace(FP32, precision=precision)
        return stages.ScreenJob(workspace, spec, deployment, OPSET, calibration).work()

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
    about = stages.DataJob(workspace).work().description
    pixels = np.rint((seen[0] * about["std"][0] + about["mean"][0]) * 255).astype(np.uint8)
    with np.load(str(resources.files("vitsearch") / "assets" / "fashion_mnist_14k.npz")) as archive:
        train = {image.tobytes() for image in archive["train_images"]}
    assert pixels.shape == (CALIBRATION.images, 1, 28, 28)
    assert all(image.tobytes() in train for image in pixels)


def test_what_can_be_cut_is_known_without_images_and_without_trained_weights(workspace, block_structure, monkeypatch):
    monkeypatch.setattr(images, "drawn", None)
    untrained = stages.Source("vit_fmnist_p4", "none", ImageSize.square(28), FASHION_MNIST)
    structure = stages.BlockStructureJob(workspace, untrained, None).work()
    assert structure.block_structure == block_structure.block_structure
    assert structure.statistics_sha256 == ""
    assert {score for row in structure.scores["ffn"] for score in row} == {1.0}


def test_the_proxy_of_an_uncut_model_has_no_divergence(workspace, cut, reference):
    seen = stages.ProxyJob(workspace, cut(0, 0), reference).work()
    assert seen.divergence == pytest.approx(0.0, abs=1e-6)


def test_the_proxy_ranks_a_light_cut_before_a_heavy_one(workspace, cut, reference):
    light = stages.ProxyJob(workspace, cut(0, 0.5), reference).work()
    heavy = stages.ProxyJob(workspace, cut(0.67, 0.875), reference).work()
    assert light.divergence < heavy.divergence
    assert light.n == 100


def test_outputs_that_are_no_numbers_are_no_score(workspace, cut, reference, monkeypatch):
    """The largest of 0 and NaN is 0, which would be the best divergence."""
    monkeypatch.setattr(judging, "predict", lambda *_: np.full((100, 10), np.nan, np.float32))
    with pytest.raises(StageError, match="diverge by nan from those of the unpruned model") as raised:
        stages.ProxyJob(workspace, cut(0, 0.5), reference).work()
    assert (raised.value.stage, raised.value.kind) == ("proxy", "not_finite")


@pytest.fixture(scope="module")
def trained(workspace, source, cut, reference) -> stages.Trained:
    targets = stages.DistillationTargets("logits", stages.LogitsJob(workspace, source, "train", RECIPE).work().sha256)
    return stages.TrainJob(workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, targets, reference, UNKNOWN).work()


@pytest.mark.long
def test_training_never_ends_worse_than_its_start(workspace, cut, reference, trained):
    before = stages.ProxyJob(workspace, cut(0.67, 0.875), reference).work()
    assert trained.steps == 4
    best = stages.Evaluation(before.qualities, 0.0, before.n)
    job = stages.TrainJob(
        workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, stages.DistillationTargets("none"), reference, best
    )
    again = job.work()
    assert (again.kept, again.evaluation) == ("start", best)
    start = models.refitted(cut(0.67, 0.875), workspace).state_dict()
    kept = load_file(workspace.store.get(again.checkpoint_sha256))
    assert all(torch.equal(kept[name], value) for name, value in start.items())


@pytest.mark.long
def test_a_rung_keeps_what_diverges_least_of_its_end_and_its_average(workspace, cut, reference, monkeypatch):
    targets, seen = stages.DistillationTargets("none"), []
    job = stages.TrainJob(workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, targets, reference, UNKNOWN)
    judge = judging.judged
    monkeypatch.setattr(judging, "judged", lambda *arguments: seen.append(judge(*arguments)) or seen[-1])
    trained = job.work()
    last, average = seen
    assert trained.evaluation == min(seen, key=lambda end: end.divergence)
    assert trained.kept == ("last" if last.divergence <= average.divergence else "average")


@pytest.mark.parametrize(("keeps", "kept"), [("nearest", "start"), ("best", "last")])
def test_a_rung_that_learns_of_a_better_model_keeps_the_best_end(workspace, cut, reference, monkeypatch, keeps, kept):
    """Learning leads away from the base, and to a higher accuracy."""
    start = stages.Evaluation({"accuracy": 0.80}, 0.01, 1000)
    ends = [stages.Evaluation({"accuracy": 0.83}, 0.03, 1000), stages.Evaluation({"accuracy": 0.82}, 0.02, 1000)]
    monkeypatch.setattr(judging, "judged", lambda *_: ends.pop(0))
    targets = stages.DistillationTargets("none")
    job = stages.TrainJob(workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, targets, reference, start, keeps=keeps)
    assert job.work().kept == kept


def test_nothing_learns_from_the_holdout(workspace, source, base, cut, monkeypatch):
    loaded = images.load_data(workspace)
    assert len(loaded.holdout) == 100
    pool = fine_tune.training_pool(loaded.learned, replace(RECIPE, images_per_epoch=10**6))
    drawn = images.drawn_rows(loaded, Calibration(10**6, 0))
    assert set(loaded.holdout.tolist()).isdisjoint([*pool.tolist(), *drawn.tolist()])
    assert len(pool) == len(drawn) == len(loaded.train) - 100


def test_a_base_is_as_accurate_as_on_the_validation_split(workspace, cut, base, reference):
    """Though it has seen the holdout in its training. A model that is far from it has forgotten that."""
    seen = stages.ProxyJob(workspace, cut(0, 0), reference).work()
    assert seen.qualities == pytest.approx(base.qualities, abs=1e-4)
    heavy = stages.ProxyJob(workspace, cut(0.67, 0.875), reference)
    worse = {name: value - 0.1 for name, value in reference.qualities.items()}
    far = replace(heavy, reference=replace(reference, qualities=worse)).work()
    kept = math.exp(-far.divergence / POLICY.rung_zero.forgetting_kl)
    assert 0 < kept < 0.5
    near = heavy.work().qualities
    assert {name: near[name] - value for name, value in far.qualities.items()} == pytest.approx(
        dict.fromkeys(base.qualities, 0.1 * kept)
    )


@pytest.mark.long
def test_the_exported_artifact_reports_its_own_accuracy(workspace, cut, trained):
    exported = stages.ExportJob(workspace, cut(0.67, 0.875), FP32, OPSET, CALIBRATION, trained.checkpoint_sha256).work()
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


def _exported(workspace, cut, checkpoint_sha256) -> stages.Exported:
    return stages.ExportJob(workspace, cut(0.67, 0.875), FP32, OPSET, CALIBRATION, checkpoint_sha256).work()


@pytest.mark.long
def test_dynamic_int8_is_judged_at_the_batch_it_is_measured_at(workspace, cut, trained):
    """Activations of a run share one scale, so another batch gives other logits and often another accuracy."""
    spec, deployment = cut(0.67, 0.875), replace(FP32, precision="int8_dynamic")
    job = stages.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, trained.checkpoint_sha256)
    exported = job.work()
    loaded, path = images.load_data(workspace), workspace.store.model(exported.graph.sha256)
    inputs = to_tensor(loaded.validation.images, ImageSize.square(28), Preprocessing(loaded.mean, loaded.std)).numpy()

    def judged(batch: int) -> Judged:
        truth = Truth(loaded.validation.labels, loaded.class_names)
        return CLASSIFICATION.judge(evaluate.logits(path, inputs, batch), truth)

    assert exported.judged == judged(1)
    assert replace(job, batch=100).work().judged == judged(100)


@pytest.mark.long
def test_a_model_of_fewer_tokens_goes_through_every_stage(workspace, source, cut, fewer_tokens, reference):
    """dynamicvit covers the other methods, and has weights of its own that are fitted and trained."""
    spec = fewer_tokens("dynamicvit", (50, 26, 26, 14, 14, 14))
    spec = replace(spec, calibrations=Calibrations(token_predictors=Calibration(64, 0)))
    deployment = replace(FP32, precision="int8_dynamic")
    graph = stages.ScreenJob(workspace, spec, deployment, OPSET, CALIBRATION).work()
    whole = stages.ScreenJob(workspace, cut(0.33, 0.5), FP32, OPSET, CALIBRATION).work()
    assert graph.macs_m < 0.75 * whole.macs_m
    assert graph.params_m == pytest.approx(whole.params_m + 2 * 0.0606, abs=1e-3)
    assert stages.ProxyJob(workspace, spec, reference).work().qualities["accuracy"] > 0.6
    teacher = stages.LogitsJob(workspace, source, "train", RECIPE).work().sha256
    targets = stages.DistillationTargets("logits", outputs_sha256=teacher)
    trained = stages.TrainJob(workspace, spec, RECIPE, 0, 1, None, targets, reference, UNKNOWN).work()
    exported = stages.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, trained.checkpoint_sha256).work()
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
    spec = stages.CompressionSpec(source, resolved, block_structure.statistics_sha256, Calibrations(refit=refit))
    graph = stages.ScreenJob(workspace, spec, plan.deployment, OPSET, CALIBRATION).work()
    half = stages.ScreenJob(workspace, cut(0, 0.5), FP32, OPSET, CALIBRATION).work()
    assert len(resolved.embed) == 144
    assert graph.macs_m < 0.75**2 * half.macs_m
    assert graph.params_m < 0.75**2 * half.params_m
    unfitted = stages.ProxyJob(workspace, replace(spec, calibrations=Calibrations()), reference).work()
    fitted = stages.ProxyJob(workspace, spec, reference).work()
    assert fitted.divergence < 0.7 * unfitted.divergence
    trained = stages.TrainJob(
        workspace, spec, RECIPE, 0, 1, None, stages.DistillationTargets("none"), reference, UNKNOWN
    ).work()
    exported = stages.ExportJob(workspace, spec, plan.deployment, OPSET, CALIBRATION, trained.checkpoint_sha256).work()
    assert exported.judged.values["accuracy"] == pytest.approx(trained.evaluation.qualities["accuracy"], abs=0.15)


@pytest.mark.long
def test_a_sparse_model_stays_sparse_through_every_stage(workspace, cut, reference):
    """A model of fewer heads and channels, trained, then trained for int8: the file has the pattern."""
    dense, few = cut(0.33, 0.5, "int8_qat"), Calibration(64, 0)
    spec = replace(dense, resolved=replace(dense.resolved, weight_sparsity="2:4"))
    spec = replace(spec, calibrations=Calibrations(refit=few, sparsity=few))
    deployment, targets = replace(FP32, precision="int8_qat"), stages.DistillationTargets("none")
    graph = stages.ScreenJob(workspace, spec, deployment, OPSET, CALIBRATION).work()
    assert stages.ProxyJob(workspace, spec, reference).work().qualities["accuracy"] > 0.6
    trained = stages.TrainJob(workspace, spec, RECIPE, 0, 1, None, targets, reference, UNKNOWN).work()
    start = trained.checkpoint_sha256
    rounded = stages.QatJob(workspace, spec, RECIPE, 1, 2, start, targets, reference, UNKNOWN, CALIBRATION).work()
    job = stages.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, rounded.checkpoint_sha256)
    for path in (workspace.scratch.model(graph.sha256), workspace.store.model(job.work().graph.sha256)):
        sparse = [zero for zero in sparse_file.zeros(path) if (zero.reshape(-1, 4).sum(1) >= 2).all()]
        assert len(sparse) == 4 * 6


@pytest.mark.long
def test_training_for_int8_starts_from_a_rung_and_its_file_agrees_with_it(workspace, cut, reference):
    spec, targets = cut(0.33, 0.5, "int8_qat"), stages.DistillationTargets("none")
    rung = stages.TrainJob(workspace, spec, RECIPE, 0, 1, None, targets, reference, UNKNOWN)
    start = rung.work().checkpoint_sha256
    job = stages.QatJob(workspace, spec, RECIPE, 1, 1.5, start, targets, reference, UNKNOWN, CALIBRATION)
    seen = job.work()
    assert seen.steps == 2
    before, after = (load_file(workspace.store.get(sha256)) for sha256 in (start, seen.checkpoint_sha256))
    assert before.keys() < after.keys()
    assert seen.kept == "start" or not np.array_equal(before["head.weight"], after["head.weight"])
    deployment = replace(FP32, precision="int8_qat")
    exported = stages.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, seen.checkpoint_sha256).work()
    assert 0 < exported.graph.parity < 0.02
    screened = stages.ScreenJob(workspace, spec, deployment, OPSET, CALIBRATION).work()
    costs = [(graph.macs_m, graph.params_m, graph.size_bytes) for graph in (screened, exported.graph)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)


@pytest.mark.long
def test_a_mixed_precision_leaves_the_named_layers_of_a_cut_model_in_fp32(workspace, source, cut, screened):
    stored = stages.SensitivityJob(workspace, source, Calibration(16, 0)).work()
    sensitivity = json.loads(workspace.store.get(stored.sha256).read_text())
    assert len(sensitivity) == 4 * 6 + 1
    spec = cut(0.5, 0.5, "int8_mixed")
    named = replace(spec, resolved=replace(spec.resolved, fp32_layers=("blocks.1.mlp.fc1", "head")))
    deployment = replace(FP32, precision="int8_mixed")
    graph = stages.ScreenJob(workspace, named, deployment, OPSET, CALIBRATION).work()
    kinds = Counter(node.op_type for node in onnx.load(workspace.scratch.model(graph.sha256)).graph.node)
    assert kinds["MatMulIntegerToFloat"] == 4 * 6 + 1 - 2
    assert screened(0.5, 0.5, "int8_ptq").size_bytes < graph.size_bytes < screened(0.5, 0.5).size_bytes


@pytest.mark.long
def test_static_int8_of_the_base_keeps_its_accuracy(workspace, cut, base):
    deployment = replace(FP32, precision="int8_ptq")
    job = stages.ExportJob(workspace, cut(0, 0, "int8_ptq"), deployment, OPSET, CALIBRATION, None)
    exported = job.work()
    assert exported.judged.values["accuracy"] >= base.qualities["accuracy"] - 0.01


@pytest.mark.long
def test_an_augmented_rung_uses_the_live_teacher(workspace, source, cut, reference, trained):
    views = replace(RECIPE, augmentation=Augmentation(flip=0.5, crop=0.7))
    targets = stages.DistillationTargets("logits", live_teacher=source)
    job = stages.TrainJob(workspace, cut(0.67, 0.875), views, 0, 1, None, targets, reference, UNKNOWN)
    seen = job.work()
    assert seen.steps == 4
    assert seen.kept != "start"
    assert seen.checkpoint_sha256 != trained.checkpoint_sha256


@pytest.mark.long
def test_a_rung_with_hints_reads_the_cached_features(workspace, source, cut, reference, trained):
    logits = stages.LogitsJob(workspace, source, "train", RECIPE).work().sha256
    features = stages.FeaturesJob(workspace, source, "train", RECIPE).work().sha256
    targets = stages.DistillationTargets("feature", logits, features)
    seen = stages.TrainJob(workspace, cut(0.67, 0.875), RECIPE, 0, 1, None, targets, reference, UNKNOWN).work()
    assert np.load(workspace.store.get(features)).shape == (len(np.load(workspace.store.get(logits))), 192)
    assert seen.checkpoint_sha256 != trained.checkpoint_sha256


@pytest.mark.long
def test_the_student_may_be_smaller_than_its_teacher(workspace, source, reference):
    """The teacher's logits are computed at its own resolution."""
    small = replace(source, resolution=ImageSize.square(24))
    structure = stages.BlockStructureJob(workspace, small, Calibration(32, 0)).work()
    plan = Plan("vit_fmnist_p4", "builtin", ImageSize.square(24), None, Compression(), "logits", RECIPE, (FP32,))
    resolved = resolve(plan, BlockStructure.from_json(structure.block_structure), Scores.from_json(structure.scores))
    spec = stages.CompressionSpec(small, resolved, structure.statistics_sha256)
    recipe = replace(RECIPE, frozen_blocks=2, layer_decay=0.75, gradient_checkpointing=True)
    teacher = stages.LogitsJob(workspace, source, "train", recipe).work().sha256
    seen = stages.TrainJob(
        workspace, spec, recipe, 0, 1, None, stages.DistillationTargets("logits", teacher), reference, UNKNOWN
    ).work()
    assert seen.steps == 4
    start = load_file(source.weights.removeprefix("file:"))
    after = load_file(workspace.store.get(seen.checkpoint_sha256))
    same = {name for name in start if start[name].shape == after[name].shape and (start[name] == after[name]).all()}
    assert {"blocks.1.mlp.fc1.weight", "patch_embed.proj.weight"} <= same
    assert {"blocks.2.mlp.fc1.weight", "head.weight"}.isdisjoint(same)


@pytest.mark.long
def test_recalibrated_batch_norms_come_nearer_to_the_base_at_another_resolution(workspace):
    small = stages.Source("efficientvit_fmnist", "builtin", ImageSize.square(20), FASHION_MNIST)
    structure = stages.BlockStructureJob(workspace, small, Calibration(32, 0)).work()
    plan = Plan("efficientvit_fmnist", "builtin", ImageSize.square(20), None, Compression(), "logits", RECIPE, (FP32,))
    resolved = resolve(plan, BlockStructure.from_json(structure.block_structure), Scores.from_json(structure.scores))
    unchanged = stages.CompressionSpec(small, resolved, structure.statistics_sha256)
    few = replace(workspace, data=DATA | {"holdout_images": 500})
    logits = stages.LogitsJob(few, replace(small, resolution=ImageSize.square(28)), "holdout", RECIPE).work().sha256
    recalibrated = replace(unchanged, calibrations=Calibrations(batch_norms=Calibration(512, 0)))
    before, after = (
        stages.ProxyJob(few, spec, stages.Reference(logits, BUILTIN[small.backbone].qualities)).work()
        for spec in (unchanged, recalibrated)
    )
    assert after.divergence < 0.8 * before.divergence


def test_batch_norms_are_recalibrated_in_the_base_before_the_cut(workspace):
    """Recalibrated after the cut they would adapt to its errors, and no fit knows their scale."""
    small, whole = stages.Source("efficientvit_fmnist", "builtin", ImageSize.square(20), FASHION_MNIST), Compression()
    structure = stages.BlockStructureJob(workspace, small, Calibration(32, 0)).work()
    variances = []
    for cut in (whole, replace(whole, ffn_pruning_ratio=0.5)):
        plan = Plan("efficientvit_fmnist", "builtin", ImageSize.square(20), None, cut, "logits", RECIPE, (FP32,))
        resolved = resolve(
            plan, BlockStructure.from_json(structure.block_structure), Scores.from_json(structure.scores)
        )
        model = models.refitted(
            stages.CompressionSpec(small, resolved, structure.statistics_sha256, Calibrations(Calibration(64, 0))),
            workspace,
        ).state_dict()
        variances.append({name: value for name, value in model.items() if name.endswith("running_var")})
    uncut = [name for name, value in variances[0].items() if value.shape == variances[1][name].shape]
    assert len(uncut) < len(variances[0])
    assert all(torch.equal(*(of[name] for of in variances)) for name in uncut)


def test_cached_logits_are_those_of_the_pool_in_its_order(workspace, source):
    logits = np.load(workspace.store.get(stages.LogitsJob(workspace, source, "train", RECIPE).work().sha256))
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
    workspace = stages.Workspace(data, FileStore(folder / "artifacts"), FileStore(folder / "scratch"), folder / "cache")
    recipe = replace(RECIPE, rungs=(0, 3), images_per_epoch=0, batch_size=8, lr=1e-3)
    base = stages.BaseJob(workspace, BUILTIN_VIT, recipe).work()
    weights = load_file(workspace.store.get(base.weights_sha256))
    assert weights["head.weight"].shape == (2, 192)
    assert base.n == 4
    assert base.qualities["accuracy"] == base.qualities["recall_min"] == 1.0  # dark or light
    assert "accuracy_top5" not in base.qualities
    longer = replace(recipe, rungs=(0, 4), augmentation=Augmentation(flip=0.5), layer_decay=0.75, label_smoothing=0.1)
    again = stages.BaseJob(workspace, BUILTIN_VIT, longer).work()
    assert again.qualities["accuracy"] == 1.0
    assert again.weights_sha256 != base.weights_sha256


def test_a_base_names_the_state_of_its_file_that_it_starts_from(workspace, tmp_path):
    state, path = load_file(BUILTIN["vit_fmnist_p4"].path()), tmp_path / "last.pth"
    torch.save(
        {"state_dict": {name: torch.zeros_like(value) for name, value in state.items()}, "model_ema": state}, path
    )
    base = stages.BaseJob(workspace, replace(BUILTIN_VIT, weights=f"file:{path}"), RECIPE).work()
    assert base.note is not None
    assert base.note.startswith(f"{path} holds weights as model_ema and state_dict: model_ema is used")
    assert base.qualities["accuracy"] > 0.88


@pytest.mark.long
def test_a_subset_lies_evenly_over_the_validation_images_as_the_model_takes_them(workspace, source):
    stored_images = workspace.store.get(stages.SubsetJob(workspace, source.view, 40).work().sha256)
    labels = workspace.store.get(stages.SubsetJob(workspace, None, 40).work().sha256)
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
    base = stages.BaseJob(workspace, start, RECIPE).work()
    unpruned = replace(start, weights=f"{stages.STORED}{base.weights_sha256}", trained_at=tall)
    assert base.qualities["accuracy"] > 0.6
    logits = stages.LogitsJob(workspace, unpruned, "holdout", RECIPE).work().sha256
    source = replace(unpruned, resolution=wide)
    structure = stages.BlockStructureJob(workspace, source, CALIBRATION).work()
    cut = Compression(0.33, 0.5, token_pruning_ratio=0.3, token_pruning_method="topk", width_multiple=16)
    plan = Plan("vit_fmnist_p4", "builtin", wide, None, cut, "none", RECIPE, (FP32,))
    resolved = resolve(plan, BlockStructure.from_json(structure.block_structure), Scores.from_json(structure.scores))
    spec = stages.CompressionSpec(source, resolved, structure.statistics_sha256)
    reference = stages.Reference(logits, base.qualities)
    trained = stages.TrainJob(
        workspace, spec, RECIPE, 0, 1, None, stages.DistillationTargets("none"), reference, UNKNOWN
    ).work()
    job = stages.ExportJob(workspace, spec, FP32, OPSET, CALIBRATION, trained.checkpoint_sha256)
    exported = job.work()
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
    source = stages.Source("tied", "none", ImageSize.square(28), FASHION_MNIST)
    base = stages.BaseJob(replace(workspace, networks=(network,)), source, RECIPE).work()
    stored = load_file(workspace.store.get(base.weights_sha256))
    assert np.array_equal(stored["first.weight"], stored["second.weight"])
