"""Names of data sources, and which keys each understands."""

from __future__ import annotations

import re

import pytest

from vitsearch.core.data_sources import (
    SOURCE_PATTERN,
    SOURCES,
    TORCH_NAMES,
    kind_of,
    missing_root,
    source_problem,
    unfitting_keys,
)

NAMED = [*(f"torch/{name}" for name in TORCH_NAMES), "hfds/cifar10", "hfds//a/folder", "hfds/./b", "wds/parts"]


@pytest.mark.parametrize("source", [*SOURCES, *NAMED])
def test_known_sources(source):
    assert source_problem(source) is None
    assert source in SOURCES or re.match(SOURCE_PATTERN, source)
    assert "seed" not in unfitting_keys(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("folders", "did you mean 'folder'"),
        ("torch/fashion-mnist", "did you mean 'fashion_mnist'"),
        ("torch/", "is not a valid source; allowed: builtin"),
        ("hfds/", "torch/NAME, hfds/NAME_OR_FOLDER, wds/NAME"),
        ("tfds/mnist", "tfds/ is not supported; hfds/"),
    ],
)
def test_unknown_sources(source, words):
    assert words in (source_problem(source) or "")


def test_keys_fit_their_sources():
    assert kind_of("hfds//a/folder") == "hfds"
    assert kind_of("builtin:fashion-mnist") == "builtin:fashion-mnist"
    assert "root" in unfitting_keys("builtin:fashion-mnist-14k")
    assert set(unfitting_keys("folder")) >= {"download", "train_split", "input_key", "class_names"}
    assert unfitting_keys("hfds/x") == ()
    assert "download" in unfitting_keys("wds/x")


def test_who_needs_a_root():
    assert missing_root("hfds/x") is None
    assert missing_root("builtin:fashion-mnist") is None
    assert missing_root("wds/x") == "is missing; 'source: wds/x' needs the folder of _info.json and the shards"
