"""The tables of the sweep over timm's architectures say what its results say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from support import REPOSITORY


@pytest.fixture(scope="module")
def variants_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("variants_page", Path(REPOSITORY, "tools", "variants_page.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(**changes):
    parts = {"widths": {"Mlp": 2}, "heads": {}, "blocks": {"Block": 1}, "unfitted": 0, "pixels": 64, "find_cpu_s": 0.5}
    return parts | {"cut_error": 1e-6, "parity": {"onnxruntime": 1e-6, "openvino": 1e-6}} | changes


def name(module="net", params_m=5.0, classes=("Mlp", "Block")):
    return {"module": module, "params_m": params_m, "classes": list(classes)}


def test_a_name_has_the_levels_whose_classes_a_variant_of_its_module_proves(variants_page):
    names = {"net_s": name(), "net_l": name(classes=["Block"]), "other": name("other")}
    levels = variants_page.levels_of_names({"names": names, "variants": {"net_s": outcome()}})
    assert levels == {"net_s": {"widths", "blocks"}, "net_l": {"blocks"}}


@pytest.mark.parametrize(
    "broken",
    [
        {"reason": "it gives (1, 49, 640) for one image instead of a logit for each class"},
        outcome(cut_error=1e-3),
        outcome(parity={"onnxruntime": 1e-6, "openvino": "exporting failed (parity)"}),
    ],
)
def test_a_variant_that_does_not_work_proves_nothing_and_is_listed_with_its_reason(variants_page, broken):
    swept = {"names": {"net_s": name()}, "variants": {"net_s": broken, "fine": outcome()}}
    swept["names"]["fine"] = name("fine")
    assert set(variants_page.levels_of_names(swept)) == {"fine"}
    assert "- `net_s`: " in variants_page.tables(swept)


def test_a_name_of_a_declared_family_has_the_levels_that_the_family_supports(variants_page):
    names = {"vit_s": name("vit") | {"declared": ["heads"]}}
    variants = {"vit_s": outcome(widths={"declared": 2}, heads={"declared": 2})}
    assert variants_page.levels_of_names({"names": names, "variants": variants}) == {"vit_s": {"heads"}}


def test_a_file_that_onnx_cannot_hold_is_not_admitted(variants_page):
    names = {"net_s": name(), "net_giant": name(params_m=600.0)}
    assert set(variants_page.levels_of_names({"names": names, "variants": {"net_s": outcome()}})) == {"net_s"}


def test_the_page_has_the_tables_of_the_last_sweep(variants_page):
    """Update it with: python tools/variants_page.py."""
    page = Path(REPOSITORY, "docs", "capabilities.md").read_text()
    assert variants_page.tables(variants_page.results()) in page


def test_the_sweep_admits_most_of_timm(variants_page):
    levels = variants_page.levels_of_names(variants_page.results())
    counted = {level: sum(level in each for each in levels.values()) for level in ("widths", "blocks", "heads")}
    assert len(levels) >= 1200
    assert counted["widths"] >= 950
    assert counted["blocks"] >= 820
    assert counted["heads"] >= 380
