"""Build, export and run every timm name that a family accepts, at every precision, and list what fails and why.

    PYTHONPATH=search:evaluators python tools/try_exports.py              # one name of each structure: some minutes
    PYTHONPATH=search:evaluators python tools/try_exports.py --all vit    # every name of a family

Names of one structure have the same kinds of modules and the same tokens and pooling; of these the smallest is tried.
Weights are random, sizes the smallest supported, and plain ViTs have two narrow blocks. The exit code is 1 if a name
fails that is not refused. `vitsearch capabilities NAME --try` tries one whole model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from torch import nn

from vitsearch import backbones
from vitsearch.backbones import FAMILIES
from vitsearch.core.backbone_check import BackboneCheck
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.families.subject import smaller_models
from vitsearch.workers.backbone_check import check_backbone

SIZES = range(32, 1025, 4)
SMALL = {"vit": {"depth": 2, "embed_dim": 192, "num_heads": 3}}
"""Arguments of timm's constructors that change the size of a model and not its structure, by family."""
SETTINGS = ("num_prefix_tokens", "no_embed_class", "global_pool")
"""Attributes of timm's ViT that change its graph; of other families some are modules."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every name, not one of each structure")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="default: all")
    asked = parser.parse_args()
    failed = tried = 0
    for family in asked.families or FAMILIES.names():
        for name in FAMILIES.get(family)().variants() if asked.all else one_of_each_structure(family):
            tried += 1
            found = try_small(name)
            failed += not (found.works or is_refused(name))
            print(f"{name} at {found.resolution}: {'works' if found.works else reasons(found)}", flush=True)
    print(f"{failed} of {tried} names fail")
    return 1 if failed else 0


def one_of_each_structure(family: str) -> Iterator[str]:
    """The name with the fewest parameters of each structure."""
    smallest: dict[Any, tuple[int, str]] = {}
    for name in FAMILIES.get(family)().variants():
        found = size(name), name
        key = structure(name)
        smallest[key] = min(smallest.get(key, found), found)
    return (name for _, name in sorted(smallest.values()))


def structure(name: str) -> tuple[object, ...]:
    model = unbuilt(name)
    kinds = frozenset(type(module) for module in model.modules())
    settings = (getattr(model, attribute, None) for attribute in SETTINGS)
    return kinds, *(None if isinstance(setting, nn.Module) else setting for setting in settings)


def size(name: str) -> int:
    return sum(parameter.numel() for parameter in unbuilt(name).parameters())


def unbuilt(name: str) -> Any:
    family: Any = backbones.find(name)  # a TimmFamily, as all of ours are
    return family.unbuilt(name)


def try_small(name: str) -> BackboneCheck:
    sizes = map(ImageSize.square, SIZES)
    fits = (size for size in sizes if backbones.supports(name, "resolution", size) is None)
    resolution = next(fits, backbones.native_resolution(name))
    with smaller_models(name, SMALL.get(backbones.find(name).family, {})):
        return check_backbone(name, resolution)


def is_refused(name: str) -> bool:
    return backbones.supports(name, "quantization", "fp32") is not None


def reasons(found: BackboneCheck) -> str:
    broken = [f"{file.precision}: {file.reason}" for file in found.files if file.reason and not file.is_refused]
    return found.reason or "; ".join(broken)


if __name__ == "__main__":
    raise SystemExit(main())
