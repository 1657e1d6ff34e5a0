import subprocess
import sys

import pytest

from vitsearch import backbones
from vitsearch.errors import UnknownName


def test_packages_import_no_heavy_library():
    code = (
        "import sys, vitsearch.backbones, vitsearch.compress, vitsearch.export;"
        "print([n for n in ('torch', 'timm', 'onnx', 'onnxruntime', 'torch_pruning') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_an_unknown_name_shows_the_nearest_ones():
    with pytest.raises(UnknownName) as caught:
        backbones.find("diet_tiny_patch16_224")
    message = str(caught.value)
    assert "did you mean 'deit_tiny_patch16_224'?" in message
    assert message.partition("known: ")[2].count(",") < backbones.NEAR_NAMES


def test_a_model_of_no_family_names_the_families():
    with pytest.raises(UnknownName, match=r"supported family \(.*\blevit, .*\bvit\)"):
        backbones.find("convnext_tiny")


def test_native_resolution():
    assert backbones.native_resolution("vit_fmnist_p4") == 28
    assert backbones.native_resolution("deit_base_patch16_384") == 384


def test_a_glob_matches_the_names_that_can_be_built():
    assert backbones.matching("efficientvit_b[01]") == ("efficientvit_b0", "efficientvit_b1")
    assert backbones.matching("vit_fmnist_*") == ("vit_fmnist_p4",)
    tagged = backbones.matching("deit_tiny_*.fb_in1k")
    assert "deit_tiny_patch16_224.fb_in1k" in tagged
    assert all(name.endswith(".fb_in1k") for name in tagged)


def test_a_glob_matches_only_names_that_have_the_weights():
    random, of_hub = backbones.matching("levit_[15]*", "none"), backbones.matching("levit_[15]*")
    assert "levit_512" in random
    assert "levit_512" not in of_hub
    assert set(of_hub) < set(random)
    assert backbones.matching("vit_*", "builtin") == ("vit_fmnist_p4",)


def test_a_glob_without_a_match_shows_the_nearest_names():
    with pytest.raises(UnknownName, match=r"called 'lvit_\*'; did you mean .*; known: .*\blevit_128s\b"):
        backbones.matching("lvit_*")
