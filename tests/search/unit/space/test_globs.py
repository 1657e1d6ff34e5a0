"""Globs of backbones in a space file."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch.errors import UnknownName
from vitsearch.space import judge, load
from vitsearch.space.changes import SpaceChange
from vitsearch.space.load import read_draft

SMALL = Path(SPACE_FILES, "small.yaml")
NAMES = ("conv_l", "conv_m", "conv_s", "vit_fmnist_p4", "vit_s")
MANY = tuple(f"net_{index:03d}" for index in range(60))


def matching(glob, weights, names=(*NAMES, *MANY)):
    if weights == "builtin":
        names = ("vit_fmnist_p4",)
    if matches := tuple(sorted(fnmatch.filter(names, glob))):
        return matches
    raise UnknownName("backbone", glob, NAMES)


@dataclass(frozen=True)
class Names:
    """Backbones that support everything."""

    names: tuple[str, ...] = (*NAMES, *MANY)
    facts: Mapping = field(default_factory=dict)

    def matching(self, glob, weights):
        return matching(glob, weights, self.names)

    def for_task(self, task):
        return self

    def supports(self, backbone, knob, value):
        return None


def judged(*overrides, names=(*NAMES, *MANY)):
    return judge(SMALL, overrides, lambda networks, resolutions: Names(names))


def starts(*overrides):
    return [(start.name, start.weights) for start in judged(*overrides).require().space.space.backbone]


def problems(*overrides):
    return judged(*overrides).draft.lines()


def test_a_glob_becomes_the_names_that_match_in_its_place():
    assert starts("space.backbone=[vit_s, conv_*]") == [
        ("vit_s", "hub"),
        ("conv_l", "hub"),
        ("conv_m", "hub"),
        ("conv_s", "hub"),
    ]
    assert starts("space.backbone=conv_[ls]") == [("conv_l", "hub"), ("conv_s", "hub")]
    assert starts("space.backbone=vit_?") == [("vit_s", "hub")]
    assert starts("space.backbone=vit_*") == [("vit_fmnist_p4", "builtin"), ("vit_s", "hub")]


def test_keys_beside_a_glob_hold_for_each_name():
    section = judged("space.backbone={name: conv_*, weights: none, mean: 0.5}").require().space.space
    assert [(start.name, start.weights, start.mean) for start in section.backbone] == [
        (name, "none", (0.5,)) for name in ("conv_l", "conv_m", "conv_s")
    ]


def test_a_glob_stands_for_models_that_have_the_weights_beside_it():
    assert starts("space.backbone={name: vit_*, weights: builtin}") == [("vit_fmnist_p4", "builtin")]


def test_a_name_that_is_written_out_keeps_its_own_keys():
    assert starts("space.backbone=[conv_*, {name: conv_m, weights: none}, '*_s']") == [
        ("conv_l", "hub"),
        ("conv_s", "hub"),
        ("conv_m", "none"),
        ("vit_s", "hub"),
    ]


def test_a_glob_without_a_match_is_one_problem_with_near_names():
    assert problems("space.backbone=[vit_s, conf_*]") == [
        "override: space.backbone[1]: no backbone is called 'conf_*'; did you mean 'conv_s'? "
        "Known: conv_l, conv_m, conv_s, vit_fmnist_p4, vit_s"
    ]


def test_a_glob_with_too_many_matches_is_one_problem_with_their_number():
    assert problems("space.backbone=net_*") == [
        "override: space.backbone: 'net_*' matches 60 backbones; allowed: up to 50, write a narrower glob"
    ]
    assert len(starts("space.backbone=net_00*")) == 10


def test_the_weights_of_a_file_are_those_of_one_model():
    assert problems("space.backbone={name: conv_*, weights: 'file:own.safetensors'}") == [
        "override: space.backbone: weights 'file:own.safetensors' are those of one model, and 'conv_*' matches 3: "
        "conv_l, conv_m, conv_s; name the one that they belong to"
    ]
    assert starts("space.backbone={name: conv_l*, weights: 'file:own.safetensors'}") == [
        ("conv_l", "file:own.safetensors")
    ]


def test_the_line_of_the_glob_is_that_of_its_names(tmp_path):
    path = tmp_path / "s.yaml"
    lines = SMALL.read_text().splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("  backbone:"))
    path.write_text("\n".join([*lines[:place], "  backbone:", "    - vit_s", "    - conv_*", *lines[place + 1 :]]))
    source = judge(path, (), lambda networks, resolutions: Names()).draft.source
    assert {source.location(("space", "backbone", index)).line for index in (1, 2, 3)} == {place + 3}


def test_problems_have_the_number_of_the_glob_in_the_file():
    lines = problems("space.backbone=[conv_*, vit_s, net_*, conf_*]")
    assert [line.split(": ")[1] for line in lines] == ["space.backbone[2]", "space.backbone[3]"]


def test_without_names_a_glob_stays_as_it_is():
    assert load(SMALL, ["space.backbone=conv_*"]).space.choices_of("backbone") == ("conv_*",)


@pytest.mark.parametrize(
    "written", ["space.backbone=null", "space.backbone=[]", "space.backbone=[[conv_*]]", "space=3"]
)
def test_what_is_no_list_of_names_is_reported_as_ever(written):
    with_names, without = judged(written).draft.lines(), read_draft(SMALL, (written,)).lines()
    assert with_names
    assert with_names == without


def test_names_that_a_newer_timm_adds_are_an_edit_of_the_space():
    before, now = (
        judged("space.backbone=[vit_s, conv_*]", names=names).require().space for names in (NAMES, (*NAMES, "conv_xl"))
    )
    assert "*" not in str(before.to_json()["space"]["backbone"])
    assert SpaceChange.between(before, now, 7).describe() == "space.backbone: added conv_xl (hub)"
