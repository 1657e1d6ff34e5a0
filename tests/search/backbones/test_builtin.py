import dataclasses
import json

import pytest

from vitsearch.backbones.builtin import BUILTIN
from vitsearch.errors import WeightsError
from vitsearch_evaluators.canonical import file_digest


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_agrees_with_what_was_written_when_it_was_trained(name):
    base = BUILTIN[name]
    written = json.loads(base.path().with_suffix(".json").read_text())
    model = written["model"]
    assert file_digest(str(base.path())) == written["weights_sha256"]
    assert (base.architecture, base.resolution) == (model["create"], model["img_size"])
    assert (base.channels, base.classes) == (model["in_chans"], model["num_classes"])
    assert {key: model[key] for key in base.arguments} == dict(base.arguments)
    normalisation = written["normalisation"]
    assert (list(base.mean), list(base.std)) == (normalisation["mean"], normalisation["std"])


def test_missing_asset_is_told():
    with pytest.raises(WeightsError, match="built-in weights gone.safetensors are not in this installation"):
        dataclasses.replace(BUILTIN["vit_fmnist_p4"], asset="gone.safetensors").path()
