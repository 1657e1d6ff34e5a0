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
