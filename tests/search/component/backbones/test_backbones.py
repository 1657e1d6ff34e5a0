import re
import subprocess
import sys

import pytest

from vitsearch import backbones
from vitsearch.core.image_size import ImageSize
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


def test_a_model_that_no_family_claims_belongs_to_its_timm_module():
    assert backbones.find("convnext_tiny").family == "convnext"
    assert backbones.find("resnet18.a1_in1k") == backbones.find("resnet50")
    assert backbones.find("convnext_tiny") != backbones.find("resnet50")


@pytest.mark.parametrize(
    ("name", "pixels", "reason"),
    [
        ("coatnet_nano_rw_224", 70, "coatnet_nano_rw_224 cannot be built at 70 pixels: .*; sizes that it takes: 64, "),
        ("nest_tiny", 65, "nest_tiny cannot be built at 65 pixels: .*patch_size.*; sizes that it takes: 64, 96, 224"),
        ("nest_tiny", (64, 96), "nest_tiny cannot be built at 64x96 pixels: .*square.*; sizes that it takes: 224"),
        ("mobilenetv5_300m_enc", 64, "mobilenetv5_300m_enc cannot be searched: it gives .*, so it is not a classifier"),
    ],
)
def test_a_size_that_a_model_cannot_take_is_refused_with_those_that_it_takes(name, pixels, reason):
    assert re.search(reason, backbones.supports(name, "resolution", ImageSize.of(pixels)))


def test_what_was_found_in_a_model_is_said_level_by_level():
    levels = backbones.found_levels("regnety_002")
    assert list(levels.lines()) == [
        "hidden channels of 13 Bottleneck",
        "no attention heads",
        "9 Bottleneck can be dropped",
    ]
    assert backbones.found_levels("deit_tiny_patch16_224") is None


def test_native_resolution():
    assert backbones.native_resolution("vit_fmnist_p4") == ImageSize.square(28)
    assert backbones.native_resolution("deit_base_patch16_384") == ImageSize.square(384)


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
    with pytest.raises(UnknownName, match=r"called 'lvit_\*'; did you mean .* Known: .*\blevit_128s\b"):
        backbones.matching("lvit_*")
