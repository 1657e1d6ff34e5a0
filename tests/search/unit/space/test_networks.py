"""Networks that the user brings, as a space file names them."""

from dataclasses import replace
from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch.backbones.catalogue import Catalogue
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import NetworkFacts
from vitsearch.space import SearchSpace, judge, load
from vitsearch.space.changes import SpaceChange
from vitsearch.space.checks.support import unfit_outputs
from vitsearch.space.load import read_draft
from vitsearch.tasks import TASKS
from vitsearch.tasks.segmentation.task import SEGMENTATION, Segmentation

SMALL = Path(SPACE_FILES, "small.yaml")
OURS = "python: 'pkg.nets:make', name: ours, resolution: 28"
THEIRS = "onnx: a.onnx, name: theirs, mean: 0.5, std: 0.5, resolution: 28"
FACTS = NetworkFacts(
    "ab" * 32,
    ImageSize.square(28),
    (1, 3),
    None,
    (ImageSize.square(28),),
    {"window_size": "it has none"},
    ("no heads",),
)


def space(*backbones):
    return load(SMALL, [f"space.backbone=[{', '.join(f'{{{backbone}}}' for backbone in backbones)}]"]).space


def problems(backbone):
    return [
        line.removeprefix("override: space.backbone[0]")
        for line in read_draft(SMALL, [f"space.backbone=[{{{backbone}}}]"]).lines()
    ]


def test_a_module_is_looked_for_beside_the_space_file():
    (network,) = space(OURS).networks
    assert (network.name, network.entry, network.resolution) == ("ours", "pkg.nets:make", ImageSize.square(28))
    assert Path(network.folder) == SMALL.parent.absolute()


def test_another_folder_can_be_named(tmp_path):
    (network,) = space(f"{OURS}, folder: {tmp_path}").networks
    assert network.folder == str(tmp_path)


def test_a_network_has_random_weights_unless_it_names_a_file():
    assert space(OURS).start_of("ours").weights == "none"


@pytest.mark.parametrize(
    ("backbone", "problem"),
    [
        (f"{OURS}, weights: hub", "'hub' is not a valid choice for a network of your own; allowed: none, file:PATH"),
        (f"{OURS}, weights: 'file:a.pt'", "weights 'file:a.pt' need mean and std beside them: those of their training"),
        (OURS.replace("pkg.nets:make", "pkg.nets"), "'pkg.nets'"),
        (OURS.replace("ours", "../ours"), "'../ours'"),
        ("python: 'a:b', name: ours", ".resolution is missing"),
        (f"{OURS}, onnx: a.onnx", "a network has either 'python', which names its code, or 'onnx'"),
        (f"{OURS}, speed: 3", "unknown key"),
        (THEIRS.replace("mean: 0.5, ", ""), ".mean is missing"),
        (f"{THEIRS}, layout: cwh", "'cwh'"),
        (f"{THEIRS}, weights: none", "the weights are in the ONNX file: leave 'weights' out"),
    ],
)
def test_what_cannot_be_is_one_problem(backbone, problem):
    (line,) = problems(backbone)
    assert problem in line


def test_a_file_is_where_the_command_runs():
    both = space(OURS, f"{THEIRS}, classes: labels.txt, layout: nhwc")
    theirs = both.networks[1]
    assert (theirs.path, theirs.classes) == (str(Path("a.onnx").absolute()), str(Path("labels.txt").absolute()))
    assert both.start_of("theirs").weights == "file:a.onnx"
    assert (both.is_file("ours"), both.is_file("theirs")) == (False, True)


def test_facts_are_kept_with_the_space():
    known = space(OURS, THEIRS).with_facts({"ours": FACTS})
    assert known.network_facts == {"ours": FACTS}
    assert SearchSpace.from_json(known.to_json()) == known
    assert known.networks[0].architecture == FACTS.architecture


def test_facts_are_no_key_of_a_file():
    (line,) = problems(f"{OURS}, facts: {{architecture: abc}}")
    assert line.startswith(": unknown key 'facts'")


def test_other_facts_are_no_change_of_a_space():
    assert SpaceChange.between(space(OURS), space(OURS).with_facts({"ours": FACTS}), 0) is None


@pytest.mark.parametrize(
    ("task", "gives_map", "wrong"),
    [
        ("classification", False, None),
        ("classification", True, "ours gives a map of logits; task classification reads logits of the whole image"),
        ("segmentation", False, "ours gives logits of the whole image; task segmentation reads a map of logits"),
        ("segmentation", True, None),
    ],
)
def test_a_network_gives_what_the_task_reads(task, gives_map, wrong):
    examined = space(OURS).with_facts({"ours": replace(FACTS, gives_map=gives_map)})
    problems = [problem.message for problem in unfit_outputs(TASKS.get(task), examined.space.backbone)]
    assert problems == ([] if wrong is None else [wrong])


class Boxes(Segmentation):
    """A task of another package, whose own network gives maps."""

    kind, gives_map, metrics = "boxes", False, SEGMENTATION.metrics


def test_a_task_of_another_package_reads_any_form(monkeypatch, tmp_path):
    monkeypatch.setitem(TASKS._targets, "boxes", f"{__name__}:Boxes")
    path = tmp_path / "space.yaml"
    path.write_text(
        "task: {kind: boxes, data: {source: 'builtin:fashion-mosaic'}}\n"
        "objectives: {mean_iou: maximize, cpu_ms_p50: minimize}\n"
        f"space: {{backbone: [{{{OURS}}}], resolution: 28}}\n"
    )
    judged = judge(path, [], lambda networks, sizes: Catalogue.of_facts({"ours": replace(FACTS, gives_map=True)}))
    assert judged.require().space.purpose.kind == "boxes"
