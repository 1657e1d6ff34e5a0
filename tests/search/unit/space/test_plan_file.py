"""A plan file becomes a plan; what is left out is filled in, and every reason against it is reported at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch import backbones
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Plan, plan_text
from vitsearch.errors import PlanError
from vitsearch.space import load
from vitsearch.space.plan_file import Backbones, WrittenPlan, read_plan

ASKED = Backbones(backbones.supports, backbones.native_resolution)
SMALL = Path(SPACE_FILES, "small.yaml")


@pytest.fixture
def read(tmp_path):
    def read(text: str, space=None) -> WrittenPlan:
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        return read_plan(path, space, ASKED)

    return read


@pytest.fixture
def problems(read):
    def problems(text: str) -> list[str]:
        with pytest.raises(PlanError) as caught:
            read(text)
        head, *lines = str(caught.value).splitlines()
        assert head.endswith(f"{len(lines)} problem{'s' if len(lines) != 1 else ''}")
        return [line.strip() for line in lines]

    return problems


def test_two_words_are_a_plan(read):
    written = read("backbone: vit_fmnist_p4\nhead_pruning_ratio: 0.33\n")
    assert plan_text(written.plan) == "vit_fmnist_p4@28 heads-33% fp32"
    assert written.filled_in == {
        "weights": "builtin",
        "resolution": 28,
        "distillation": "logits",
        "quantization": "fp32",
        "backend": "onnxruntime",
        "provider": "cpu",
        "batch": 1,
    }


def test_a_plan_of_the_front_is_read_as_it_is(read, golden):
    assert read(json.dumps(golden("plan"))).plan == Plan.from_json(golden("plan"))
    assert read(json.dumps({"trial": 3, "plan": golden("plan"), "feasible": True}, indent=2)).filled_in == {}


def test_the_rest_comes_from_the_space(read):
    space = load(SMALL, ["space.quantization=[int8_ptq, fp32]", "space.width_multiple=16", "search.seed=7"]).space
    plan = read("ffn_pruning_ratio: 0.5", space).plan
    assert plan_text(plan) == "vit_fmnist_p4@28 ffn-50% int8_ptq"
    assert plan.compression.width_multiple == 16
    assert plan.recipe == space.recipe(plan.backbone)
    assert plan.deployment.device == space.device_names[0]


def test_the_deployment_comes_from_the_space(read):
    space = load(SMALL, ["space.backend=[openvino, litert]", "space.provider=[cuda, npu, nnapi]"]).space
    first = read("resolution: 28", space).plan.deployment
    assert (first.runtime, first.provider, first.batch) == ("openvino", "npu", 1)
    other = read("backend: litert", space).plan.deployment
    assert (other.runtime, other.provider) == ("litert", "nnapi")
    assert read("backend: tensorrt", space).plan.deployment.provider == "gpu"  # the default: the space has none of it


def test_an_open_batch_of_the_space_is_for_runtimes_that_have_one(read):
    space = load(SMALL, ["space.batch=open"]).space
    assert read("resolution: 28", space).plan.deployment.batch is None
    assert read("backend: litert", space).plan.deployment.batch == 1


@pytest.mark.parametrize(("written", "batch"), [("1", 1), ("'1'", 1), ("open", None), ("auto", 1)])
def test_a_batch_is_a_number_or_a_word(read, written, batch):
    assert read(f"backbone: vit_fmnist_p4\nbatch: {written}").plan.deployment.batch == batch


HYBRID = "backbone: mobilevit_fmnist\nquantization: int8_ptq\n"


@pytest.mark.parametrize(
    ("text", "ops"),
    [
        (HYBRID, "linear"),
        (HYBRID + "backend: openvino", "all"),
        (HYBRID + "quantized_ops: all", "all"),
        (HYBRID + "quantized_ops: auto", "linear"),
        (HYBRID.replace("int8_ptq", "int8_dynamic"), "linear"),
        (HYBRID.replace("int8_ptq", "fp32"), None),
        ("backbone: vit_fmnist_p4\nquantization: int8_ptq", None),
    ],
)
def test_quantized_layers_are_the_usual_ones_unless_the_plan_names_them(read, text, ops):
    written = read(text)
    assert written.plan.deployment.quantized_ops == ops
    assert written.filled_in.get("quantized_ops") == (None if "quantized_ops" in text else ops)


def test_quantized_layers_of_the_space_are_for_backbones_that_have_a_choice(read):
    space = load(SMALL, ["space.quantization=int8_ptq", "space.quantized_ops=all"]).space
    assert read("backbone: mobilevit_fmnist", space).plan.deployment.quantized_ops == "all"
    assert read("backbone: vit_fmnist_p4", space).plan.deployment.quantized_ops is None


def test_quantized_layers_that_a_backbone_cannot_have_are_refused(problems):
    assert problems("backbone: vit_fmnist_p4\nquantization: int8_ptq\nquantized_ops: all") == [
        "line 3: quantized_ops: vit_fmnist_p4 does not support 'all': has no convolutions besides its patch embedding, "
        "so its int8 files have one form"
    ]


def test_what_the_runtime_does_not_have_is_refused(problems):
    assert problems("backbone: vit_fmnist_p4\nbackend: litert\nprovider: npu\nquantization: palette4\nbatch: open") == [
        "line 3: provider: 'npu': LiteRT reaches NPUs through its CompiledModel interface alone, and vitsearch runs "
        "its Interpreter; allowed: cpu, gpu, nnapi",
        "line 4: quantization: 'palette4' is not supported for litert; allowed: "
        "fp32, int8_dynamic, int8_ptq, int8_weights",
        "line 5: batch: the files of litert take a fixed number of images, not 'open'; allowed: 1 to 1024",
    ]


def test_the_file_wins_over_the_space(read):
    space = load(SMALL).space
    plan = read("resolution: 20\nquantization: fp16\nrecipe: {lr: 0.5}\n", space).plan
    assert (plan.resolution, plan.deployment.precision, plan.recipe.lr) == (ImageSize.square(20), "fp16", 0.5)
    assert plan.recipe.rungs == space.recipe(plan.backbone).rungs


def test_a_list_of_two_sides_is_height_and_width(read):
    space = load(SMALL).space
    assert read("resolution: [20, 24]", space).plan.resolution == ImageSize(20, 24)
    assert read("resolution: [[20, 24]]", space).plan.resolution == ImageSize(20, 24)


def test_a_rectangle_of_the_space_is_filled_in_as_a_list(read):
    space = load(SMALL, ["space.resolution=[[20, 24]]"]).space
    written = read("backbone: vit_fmnist_p4", space)
    assert (written.plan.resolution, written.filled_in["resolution"]) == (ImageSize(20, 24), [20, 24])


def test_a_resolution_that_the_space_lacks_is_not_filled_in(read):
    space = load(SMALL, ["space.resolution=[20, 24]", "baseline.resolution=24"]).space
    assert read("backbone: vit_fmnist_p4", space).plan.resolution == ImageSize.square(24)


def test_starting_weights_may_stand_beside_the_backbone_or_in_it(read):
    assert read("backbone: vit_fmnist_p4\nweights: none").plan.weights == "none"
    assert read("backbone: {name: vit_fmnist_p4, weights: none}").plan.weights == "none"


def test_tokens_are_pruned_with_the_default_method(read):
    cut = read("backbone: vit_fmnist_p4\ntoken_pruning_ratio: 0.3\ntoken_pruning_at: [1, 3]").plan.compression
    assert (cut.token_pruning_method, cut.token_pruning_at) == ("topk", (1, 3))


def test_all_reasons_are_given_at_once(problems):
    problem_lines = problems(
        """
backbone: vit_fmnist_p4
resolutoin: 24
resolution: 30
window_size: 7
head_pruning_ratio: 1.5
ffn_pruning_ratio: [0.1, 0.2]
token_pruning_method: topkk
distillation: token
quantization: int9
recipe: {lr: fast}
"""
    )
    expected = [
        "line 3: unknown key 'resolutoin'; did you mean 'resolution'?",
        "line 4: resolution: vit_fmnist_p4 does not support 30: 30 pixels are not a multiple of the patch size 4",
        "line 5: window_size: vit_fmnist_p4 does not support 7: ",
        "line 6: head_pruning_ratio: 1.5 is above 0.95; allowed: 0 to 0.95",
        "line 7: ffn_pruning_ratio: a plan has one value, not 2",
        "line 8: token_pruning_method: 'topkk' is not a valid value; allowed: topk, evit, tome, dynamicvit; did you",
        "line 9: distillation: vit_fmnist_p4 does not support 'token': has no distillation head",
        "line 10: quantization: 'int9' is not a valid value; allowed: fp32, fp16,",
        "line 11: recipe.lr: 'fast' is not a valid value; allowed: auto, a number",
    ]
    assert [line[: len(start)] for line, start in zip(problem_lines, expected, strict=True)] == expected
    assert "allowed: none, logits, feature" in problem_lines[6]


def test_problems_of_the_form_of_the_front_keep_its_keys(problems):
    problem_lines = problems(
        '{"backbone": "vit_fmnist_p5", "compression": {"head_ratio": 0.5, "scope": "local"}, "deployments": '
        '[{"device": "local", "runtime": "abacus", "provider": "CUDA", "precision": "bf16", "options": {}}]}'
    )
    for expected in (
        "did you mean 'vit_fmnist_p4'",
        "unknown key 'head_ratio'; did you mean 'head_pruning_ratio'?",
        "compression.scope: 'local' is not a valid value",
        "deployments[0].runtime: 'abacus' is not a valid value; allowed: onnxruntime, openvino,",
        "deployments[0].provider: 'CUDA' is not a valid value; allowed: cpu, cuda, tensorrt,",
        "did you mean 'cuda'?",
        "deployments[0].precision: 'bf16'",
    ):
        assert any(expected in line for line in problem_lines), expected
    assert len(problem_lines) == 6


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("resolution: 28", "line 1: backbone is missing"),
        ("backbone: [a, b]", "line 1: backbone: must be text, not a list"),
        (
            "backbone: {name: vit_fmnist_p4, wights: none}",
            "line 1: backbone: unknown key 'wights'; did you mean 'weights'?",
        ),
        ("backbone: vit_fmnist_p4\ncompression: 3", "line 2: compression: must be a mapping, not 3"),
        ("backbone: vit_fmnist_p4\ndeployments: []", "line 2: deployments: must be a list of one mapping"),
        (
            "backbone: vit_fmnist_p4\ndeployments: [{options: [1]}]",
            "line 2: deployments[0].options: [1] is not supported; allowed: a mapping of words and whole numbers",
        ),
        ("backbone: vit_fmnist_p4\nrecipe: {lrr: 3}", "line 2: recipe: unknown key 'lrr'; did you mean 'lr'?"),
        (
            "backbone: vit_fmnist_p4\nbackbone: vit_fmnist_p4",
            "line 2: key 'backbone' is written twice; first on line 1",
        ),
    ],
)
def test_each_problem_names_its_key(problems, text, line):
    assert problems(text) == [line]
