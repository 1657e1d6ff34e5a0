"""Found structures that are kept in the user's cache folder: what is read again, and what is found again."""

import pytest
import timm
import torch

from vitsearch.backbones import found_structures
from vitsearch.backbones.found_structures import kept_structure
from vitsearch.structure.values import Heads, Part, Structure

FOUND = Structure((Part("attend", Heads("attend", "attend.proj", 4, 8, "parts"), None),))


@pytest.fixture
def finder(tmp_path, monkeypatch):
    """Gives what is kept under an identity, and counts how often it is found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def kept(**identity):
        def find():
            kept.times += 1
            return FOUND

        assert kept_structure({"architecture": "ours", "pixels": 64} | identity, find) == FOUND
        return kept.times

    kept.times = 0
    return kept


def test_a_structure_is_found_once_for_each_identity(finder):
    assert [finder(), finder(), finder(pixels=32), finder(pixels=32), finder()] == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("library", [timm, torch], ids=["timm", "torch"])
def test_it_is_found_again_with_another_version_of_a_library(finder, monkeypatch, library):
    assert finder() == 1
    monkeypatch.setattr(library, "__version__", "0.0.1")
    assert [finder(), finder()] == [2, 2]


def test_it_is_found_again_by_other_code_of_ours_whatever_code_the_identity_names(finder, monkeypatch):
    assert finder(code="of a network") == 1
    monkeypatch.setattr(found_structures, "_code_digest", lambda: "another")
    assert [finder(code="of a network"), finder(code="of a network")] == [2, 2]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parts": [1]}'])
def test_it_is_found_again_where_its_file_is_damaged(finder, tmp_path, text):
    finder()
    (file,) = tmp_path.rglob("structures/*.json")
    file.write_text(text)
    assert [finder(), finder()] == [2, 2]
