"""Families of backbones. A new one is one file, one line in ``FAMILIES`` and one conformance test.

This package imports neither torch nor timm; a family's module does, when it is asked for.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Any

from vitsearch.backbones.base import Backbone, BlockUnits, Built, ModelSpec
from vitsearch.errors import UnknownName
from vitsearch.registry import Registry

__all__ = [
    "FAMILIES",
    "Backbone",
    "BlockUnits",
    "Built",
    "ModelSpec",
    "find",
    "native_resolution",
    "starting_digest",
    "supports",
]

NAMES_SHOWN = 8

FAMILIES: Registry[Any] = Registry(
    "family of backbones", {"vit": "vitsearch.backbones.vit:ViTFamily"}, group="vitsearch.backbones"
)


@lru_cache(maxsize=256)
def find(name: str) -> Backbone:
    """The family that builds ``name``; :class:`UnknownName` shows the nearest names."""
    families: list[Backbone] = [FAMILIES.get(family)() for family in FAMILIES.names()]
    for family in families:
        if family.claims(name):
            return family
    known = [variant for family in families for variant in family.variants()]
    near = difflib.get_close_matches(name, known, n=NAMES_SHOWN, cutoff=0.4)
    raise UnknownName("backbone", name, near or known[:NAMES_SHOWN])


def supports(name: str, knob: str, value: Any) -> str | None:
    """None, or why backbone ``name`` cannot have ``knob`` at ``value``."""
    return find(name).supports(name, knob, value)


def native_resolution(name: str) -> int:
    return find(name).native_resolution(name)


def starting_digest(spec: ModelSpec) -> str:
    """Names the starting weights by content: see :func:`vitsearch.backbones.weights.digest_of`."""
    from vitsearch.backbones.weights import digest_of

    return digest_of(spec)
