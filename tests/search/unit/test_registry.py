"""Plugins are found by name and imported on first use."""

from __future__ import annotations

import json
import sys
from importlib import metadata

import pytest

from vitsearch.errors import UnknownName, VitsearchError
from vitsearch.registry import Registry

TABLE = {"decoder": "json:JSONDecoder", "absent": "no_such_module_here:Thing"}


@pytest.fixture
def registry():
    return Registry("parser", TABLE, "vitsearch.test_parsers")


def test_names_are_sorted_and_import_nothing(registry):
    assert registry.names() == ("absent", "decoder")
    assert "no_such_module_here" not in sys.modules


def test_a_plugin_is_imported_when_asked_for(registry):
    assert registry.get("decoder") is json.JSONDecoder
    with pytest.raises(ModuleNotFoundError):
        registry.get("absent")


def test_an_unknown_name_is_reported_with_the_nearest(registry):
    with pytest.raises(
        UnknownName, match="no parser is called 'decodr'; did you mean 'decoder'. Known: absent, decoder"
    ):
        registry.get("decodr")


def test_a_second_target_for_a_name_is_refused(registry):
    registry.register("decoder", TABLE["decoder"])
    with pytest.raises(
        VitsearchError, match="parser 'decoder' is registered twice: 'json:JSONDecoder' and 'json:loads'"
    ):
        registry.register("decoder", "json:loads")


def test_a_target_must_name_module_and_attribute(registry):
    with pytest.raises(VitsearchError, match="'json' is not a valid target; write 'module:attribute'"):
        registry.register("x", "json")


def test_entry_points_are_added_to_the_table(monkeypatch):
    point = metadata.EntryPoint("theirs", "json:dumps", "vitsearch.test_parsers")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == point.group else [])
    assert Registry("parser", TABLE, point.group).get("theirs") is json.dumps


def test_an_entry_point_cannot_replace_our_name(monkeypatch):
    point = metadata.EntryPoint("decoder", "json:dumps", "vitsearch.test_parsers")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    with pytest.raises(VitsearchError, match="registered twice"):
        Registry("parser", TABLE, point.group)
