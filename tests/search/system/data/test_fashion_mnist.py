"""The committed weights are those that their card describes."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import load_file

from vitsearch.backbones.builtin import BUILTIN
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data import DataSpec, load
from vitsearch.data.fashion_mnist import ASSETS, LICENSE_ASSET, SUBSET_ASSET
from vitsearch.training import inference
from vitsearch_agent.base.canonical_json import file_digest

pytestmark = pytest.mark.long

MEGABYTE = 10**6
NAMES = sorted(BUILTIN)


def card_of(name):
    return json.loads(BUILTIN[name].path().with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def data():
    return load(DataSpec("builtin:fashion-mnist-14k"))


@pytest.mark.parametrize("name", NAMES)
def test_card_names_these_files(name):
    card = card_of(name)
    assert card["weights_sha256"] == file_digest(str(BUILTIN[name].path()))
    assert card["data"]["subset_sha256"] == file_digest(str(SUBSET_ASSET))
    assert BUILTIN[name].asset in LICENSE_ASSET.read_text()


def test_all_weights_are_bases_and_small():
    stored = sorted(ASSETS.glob("*.safetensors"))
    assert stored == sorted(BUILTIN[name].path() for name in NAMES)
    assert sum(path.stat().st_size for path in stored) <= 15 * MEGABYTE
    assert "Zalando" in LICENSE_ASSET.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_stored_as_fp16(name):
    floats = {key: value for key, value in load_file(BUILTIN[name].path()).items() if value.is_floating_point()}
    assert {value.dtype for value in floats.values()} == {torch.float16}
    assert all(torch.isfinite(value).all() for value in floats.values())


@pytest.mark.parametrize("name", NAMES)
def test_weights_reach_what_the_card_says(name, data):
    card, base = card_of(name), BUILTIN[name]
    model = timm.create_model(card["model"].pop("create"), **card["model"])
    model.load_state_dict({key: value.float() for key, value in load_file(base.path()).items()})
    logits = inference.predict_logits(
        model, data.validation.images, base.resolution, Preprocessing(data.mean, data.std)
    )
    accuracy = inference.accuracy(logits, data.validation.labels)
    assert len(data.validation) == card["accuracy"]["validation_images"]
    assert accuracy == pytest.approx(card["accuracy"]["validation"], abs=0.0015)  # other kernels may turn a few images
    assert accuracy >= 0.9
