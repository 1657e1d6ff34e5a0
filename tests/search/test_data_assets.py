"""The committed weights are those that their card describes."""

from __future__ import annotations

import json

import pytest
import timm
from safetensors.torch import load_file

from vitsearch import train
from vitsearch.data import DataSpec, load
from vitsearch.data.fashion_mnist import ASSETS, LICENSE_ASSET, SUBSET_ASSET
from vitsearch_evaluators.canonical import file_digest

WEIGHTS = ASSETS / "vit_fmnist_p4.safetensors"


@pytest.fixture(scope="module")
def card():
    return json.loads(WEIGHTS.with_suffix(".json").read_text())


def test_card_names_these_files(card):
    assert card["weights_sha256"] == file_digest(str(WEIGHTS))
    assert card["data"]["subset_sha256"] == file_digest(str(SUBSET_ASSET))
    assert WEIGHTS.stat().st_size < 6_000_000
    assert "Zalando" in LICENSE_ASSET.read_text()


def test_weights_reach_what_the_card_says(card):
    model_card = dict(card["model"])
    model = timm.create_model(model_card.pop("create"), **model_card)
    model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    data = load(DataSpec("builtin:fashion-mnist-14k"))
    assert card["normalisation"] == {"mean": list(data.mean), "std": list(data.std)}
    assert card["accuracy"]["validation"] >= 0.885
    logits = train.predict_logits(model, data.validation.images[:500], 28, data.mean, data.std)
    found = train.accuracy(logits, data.validation.labels[:500])
    assert found == pytest.approx(card["accuracy"]["validation"], abs=0.045)  # 3 standard errors of 500
