import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from vitsearch import data
from vitsearch.backbones import ModelSpec, find, weights
from vitsearch.backbones.builtin import BUILTIN, JUDGED_ON, JudgedOn
from vitsearch.core.image_size import ImageSize
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import WeightsError
from vitsearch.space.section_base import BUILTIN_BASES
from vitsearch.tasks import CLASSIFICATION, Truth
from vitsearch_agent.base.canonical_json import file_digest


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_base_matches_the_record_of_its_training(name):
    base = BUILTIN[name]
    written = json.loads(base.path().with_suffix(".json").read_text())
    model = written["model"]
    assert file_digest(str(base.path())) == written["weights_sha256"]
    assert (base.architecture, base.resolution) == (model["create"], ImageSize.of(written["resolution"]))
    assert (base.channels, base.classes) == (model["in_chans"], model["num_classes"])
    assert {key: model[key] for key in base.arguments} == json.loads(json.dumps(dict(base.arguments)))
    numbers = {name: list(getattr(base.preprocessing, name)) for name in ("mean", "std")}
    assert {name: written["normalisation"][name] for name in numbers} == numbers


@pytest.mark.parametrize("name", sorted(BUILTIN))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_base_is_loaded_strictly(name, channels):
    base = BUILTIN[name]
    sized = {"img_size": base.resolution.height} if base.family == "vit" else {}
    spec = ModelSpec(name, "builtin", base.resolution, base.classes, channels)
    built = weights.build(spec, weights.BuildRecipe(base.architecture, base.arguments | sized))
    assert built.head_is_new == (channels != base.channels)
    stored = load_file(base.path())
    kept = [key for key, value in built.model.state_dict().items() if value.equal(stored[key].to(value.dtype))]
    assert len(stored) - len(kept) == (channels != base.channels)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_the_qualities_that_ship_with_a_base_are_what_it_has(name, tmp_path):
    images, base = data.load(data.DataSpec.from_json({"source": "builtin:fashion-mnist-14k"}), tmp_path), BUILTIN[name]
    assert JudgedOn(images.identity.fingerprint, len(images.validation.images)) == JUDGED_ON
    model = find(name).build(ModelSpec(name, "builtin", base.resolution, base.classes, base.channels)).model.eval()
    inputs = to_tensor(images.validation.images, base.resolution, base.preprocessing)
    with torch.inference_mode():
        outputs = torch.cat([model(batch) for batch in inputs.split(250)]).numpy()
    judged = CLASSIFICATION.judge(outputs, Truth(images.validation.labels, images.class_names))
    assert judged.values == pytest.approx(dict(base.qualities))


def test_starting_weights_default_to_the_built_in_bases():
    assert set(BUILTIN_BASES) == set(BUILTIN)


def test_a_missing_asset_is_reported():
    with pytest.raises(WeightsError, match="built-in weights gone.safetensors are missing from this installation"):
        dataclasses.replace(BUILTIN["vit_fmnist_p4"], asset="gone.safetensors").path()
