"""Sources of data, and the keys that each one uses."""

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
def test_valid_sources_are_accepted(source):
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
        ("tfds/mnist", "tfds/ is not supported; use hfds/"),
    ],
)
def test_invalid_sources_are_refused_with_the_allowed_ones(source, words):
    assert words in (source_problem(source) or "")


def test_each_source_has_its_own_keys():
    assert kind_of("hfds//a/folder") == "hfds"
    assert kind_of("builtin:fashion-mnist") == "builtin:fashion-mnist"
    assert "root" in unfitting_keys("builtin:fashion-mnist-14k")
    assert set(unfitting_keys("folder")) >= {"download", "input_key", "class_names"}
    assert unfitting_keys("hfds/x") == ("labels", "group")
    assert "download" in unfitting_keys("wds/x")


def test_sources_that_need_a_root():
    assert missing_root("hfds/x") is None
    assert missing_root("builtin:fashion-mnist") is None
    assert missing_root("wds/x") == "is missing; 'source: wds/x' needs the folder of _info.json and the shards"
