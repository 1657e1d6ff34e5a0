"""`vitsearch check` finds everything in one pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import REPOSITORY
from vitsearch.backbones.builtin import BUILTIN
from vitsearch.errors import SpaceError
from vitsearch.search.check import check_space
from vitsearch.search.check.space import check_file

QUICKSTART = Path(REPOSITORY, "spaces", "quickstart.yaml")
SPACE = """
task:
  data: {data}
  fine_tune: {{lr: {lr}}}
objectives: {{accuracy: maximize, cpu_ms_p50: minimize}}
space:
  backbone: {backbone}
  resolution: 28
  quantization: [{quantization}]
"""
RIGHT = {
    "data": "{source: builtin:fashion-mnist-14k}",
    "lr": "1e-4",
    "backbone": "vit_fmnist_p4",
    "quantization": "fp32",
}


@pytest.fixture
def problems(tmp_path):
    """The problems of a space file that is right except for `changes`."""

    def check(**changes: str) -> tuple[str, ...]:
        path = tmp_path / "space.yaml"
        path.write_text(SPACE.format(**RIGHT | changes))
        with pytest.raises(SpaceError) as caught:
            check_space(path).require()
        return caught.value.problems

    return check


def test_mistakes_of_different_kinds_are_found_together(problems, tmp_path):
    nowhere = tmp_path / "nowhere"
    text = "\n".join(
        problems(
            data=f"{{source: folder, root: {nowhere}, validation_share: much}}",
            lr="fast",
            backbone="[vit_fmnist_p5, {name: efficientvit_fmnist, weights: 'file:/no/weights'}]",
            quantization="fp32, int9, bf16",
        )
    )
    for expected in (
        "line 3: task.data.validation_share: must be a number, not 'much'",
        f"line 3: task.data.root: {nowhere} is not a folder",
        "line 4: task.fine_tune.lr: 'fast' is not a valid value; allowed: auto, a number",
        "did you mean 'vit_fmnist_p4'",
        "there is no file /no/weights",
        "line 9: space.quantization[1]: 'int9' is not a valid value",
        "line 9: space.quantization[2]: 'bf16'",
    ):
        assert expected in text


UNKNOWN = "vit_fmnist_p4, vit_fmnist_p5"
KNOWN = "'vit_fmnist_p4'? Known"
NAMED = "1e-4, class_weights: {Shrit: 4}"
ONE_ROUND = [
    ({"backbone": f"[{UNKNOWN}]", "lr": NAMED}, [KNOWN, "'Shrit'"]),
    ({"backbone": f"[{UNKNOWN}]", "lr": NAMED, "quantization": "int9"}, [KNOWN, "'Shrit'", "int9"]),
    ({"backbone": "[{name: vit_fmnist_p4, weights: 'file:/no/weights'}]", "lr": NAMED}, ["/no/weights", "'Shrit'"]),
    ({"backbone": "[{CHANCE}]", "quantization": "int9"}, ["which is chance", "int9"]),
    ({"backbone": f"[{{CHANCE}}, {UNKNOWN[15:]}]", "lr": NAMED}, ["which is chance", KNOWN, "'Shrit'"]),
    ({"lr": f"{NAMED}}}\n  teacher: {{backbone: vit_tniy", "quantization": "int9"}, ["vit_tniy", "'Shrit'", "int9"]),
    ({"lr": f"{NAMED}}}\n  kind: clasification\n  proxy: {{", "quantization": "int9"}, ["clasification", "'Shrit'"]),
    ({"lr": f"{NAMED}}}\nserach: {{trials: 3", "backbone": f"[{UNKNOWN}]"}, ["did you mean 'search'", "'Shrit'"]),
    ({"backbone": "[{name: vit_fmnist_p4, mean: [0.5, 0.5], std: 0.5}]", "lr": NAMED}, ["has 2 numbers", "'Shrit'"]),
    ({"backbone": "[{name: mine, python: 'no_module:make', resolution: 28}]", "lr": NAMED}, ["no_module", "'Shrit'"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "named"), ONE_ROUND)
def test_a_mistake_of_one_kind_hides_none_of_another(problems, tmp_path, changes, named, monkeypatch):
    monkeypatch.setattr("vitsearch.search.check.weights.MOST_IMAGES", 100)
    state = {name: value.float() for name, value in load_file(BUILTIN["vit_fmnist_p4"].path()).items()}
    save_file(state | {"head.weight": torch.zeros_like(state["head.weight"])}, tmp_path / "chance.safetensors")
    own = f"{{name: vit_fmnist_p4, weights: 'file:{tmp_path}/chance.safetensors', mean: 0.286, std: 0.353}}"
    changes = {key: value.replace("{CHANCE}", own) for key, value in changes.items()}
    lines = problems(**changes)
    for text in named:
        assert sum(text in line for line in lines) == 1, (text, lines)


@pytest.mark.parametrize(
    ("resolution", "image_size", "is_warned"),
    [("[28, [24, 32]]", "", True), ("[28, [24, 32]]", ", image_size: [48, 64]", False), ("[[24, 32]]", "", False)],
)
def test_images_that_are_stored_in_one_of_several_shapes_are_a_warning(tmp_path, resolution, image_size, is_warned):
    data = f"{{source: folder, root: {tmp_path}{image_size}}}"
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.format(**RIGHT | {"data": data}).replace("resolution: 28", f"resolution: {resolution}"))
    warnings = [line for line in check_file(path).warnings if "task.data.image_size" in line]
    assert bool(warnings) == is_warned
    assert all("the resolutions have several shapes (24x32, 28)" in line for line in warnings)


def test_a_missing_root_is_reported_once(problems):
    (line,) = problems(data="{source: folder}")
    assert line.startswith("line 3: task.data.root is missing")


def test_junk_and_weights_of_another_model_are_refused(problems, tmp_path):
    junk, other = tmp_path / "junk.pth", BUILTIN["mobilevit_fmnist"].path()
    junk.write_text("no weights at all")
    files = {"vit_fmnist_p4": junk, "efficientvit_fmnist": other}
    listed = ", ".join(f"{{name: {name}, weights: 'file:{path}'}}" for name, path in files.items())
    lines = problems(backbone=f"[{listed}]")
    assert f"{junk} holds no weights" in lines[0]
    assert f"{other} does not hold weights of efficientvit_fmnist" in lines[1]


def test_the_weights_of_a_teacher_are_read(problems, tmp_path):
    torch.save({"epoch": torch.zeros(1)}, tmp_path / "teacher.pth")
    teacher = f"{{backbone: vit_fmnist_p4, weights: 'file:{tmp_path / 'teacher.pth'}'}}"
    (line,) = problems(lr=f"1e-4}}\n  teacher: {teacher}\n  proxy: {{calibration_images: 64")
    assert "task.teacher.weights" in line
    assert "does not hold weights of vit_fmnist_p4" in line


def test_weights_of_a_class_that_the_data_does_not_have_are_refused_with_the_nearest_name(problems):
    (problem,) = problems(lr="1e-4, class_weights: {Shrit: 4}")
    assert problem == "line 4: task.fine_tune.class_weights.Shrit: unknown class 'Shrit'; did you mean 'Shirt'?"


def test_weights_of_classes_of_the_data_are_fine(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.format(**RIGHT | {"lr": "1e-4, class_weights: {Shirt: 4}"}))
    space = check_space(path).require().space
    assert space.recipe("vit_fmnist_p4").class_weights == (("Shirt", 4.0),)


def test_an_override_that_makes_values_unusable_only_warns():
    checked = check_space(QUICKSTART, ["space.backbone=efficientvit_fmnist"])
    assert checked.require().plans > 0
    left_out = [warning for warning in checked.warnings if warning.endswith("it is left out")]
    assert any("space.token_pruning_ratio[1]: no backbone of the file supports 0.3" in warning for warning in left_out)


def test_a_known_bad_combination_is_a_warning_with_its_reason_and_figure():
    checked = check_space(QUICKSTART, ["space.backend=onnxruntime", "space.quantization=[fp32, fp16, int8_ptq]"])
    assert checked.require().plans > 0
    assert [warning.partition(":")[0] for warning in checked.warnings] == [
        "vit_fmnist_p4, efficientvit_fmnist, mobilevit_fmnist on onnxruntime at fp16",
        "efficientvit_fmnist on onnxruntime at int8_ptq",
    ]
    assert "0.98 to 1.12 times the CPU time of fp32" in checked.warnings[0]


def test_a_glob_stands_for_the_names_that_match(problems, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.format(**RIGHT | {"backbone": "[vit_fmnist_p4, '*_fmnist*']"}))
    names = check_space(path).require().space.choices_of("backbone")
    assert names == ("vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist")
    (line,) = problems(backbone="[vit_fmnist_p4, 'mobilvit_?_*']")
    assert line.startswith("line 7: space.backbone[1]: no backbone that can be built is called 'mobilvit_?_*'; did you")


def test_no_more_trainings_are_promised_than_the_file_allows():
    """A search ends before its last training when it has converged."""
    assert ", of which at most 8 will be trained." in check_space(QUICKSTART).require().describe()
    assert (
        "as many as 60 s allow will be trained."
        in check_space(QUICKSTART, ["search.trials=null", "search.budget=60s"]).require().describe()
    )


def test_an_unusable_value_on_the_line_is_a_problem():
    overrides = ["space.backbone=efficientvit_fmnist", "space.token_pruning_ratio=[0.0, 0.3]"]
    with pytest.raises(SpaceError, match=r"override: space\.token_pruning_ratio\[1\]: no backbone"):
        check_space(QUICKSTART, overrides).require()


def test_an_unusable_value_of_the_file_is_a_problem(problems):
    (line,) = problems(backbone="efficientvit_fmnist", quantization="fp32]\n  token_pruning_ratio: [0.0, 0.3")
    assert "space.token_pruning_ratio[1]: no backbone of the file supports 0.3" in line


def test_a_knob_without_any_usable_value_is_a_problem_also_after_an_override(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE.format(**RIGHT))
    with pytest.raises(SpaceError, match="no backbone of the file supports 28"):
        check_space(path, ["space.backbone={name: deit_tiny_patch16_224, weights: none}"]).require()


def test_trainers_that_this_machine_has_no_cores_for_are_noted():
    (note,) = check_space(QUICKSTART, ["resources.trainers=999"]).require().notes
    assert note.startswith("resources: 999 trainers with 1 cores each want 999 cores, but this machine has ")
