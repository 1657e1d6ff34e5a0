"""The found structure of a timm architecture: found once, then kept in the user's cache folder.

A structure depends on the architecture and its constructor arguments alone: not on weights, classes or the size of the
images. It is found on small images (`FoundFamily.traced_size`), so that it takes seconds.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch

from vitsearch import structure
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.core.image_size import ImageSize
from vitsearch.storage.atomic_files import replacing
from vitsearch.structure.find import find_structure
from vitsearch.structure.values import Structure
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.base.system import user_cache_folder

PIXELS = 64
"""The smallest side of an image that is traced."""
SEED = 0


def structure_of(recipe: BuildRecipe, size: ImageSize) -> Structure:
    """The structure of an architecture, from the cache or found now.

    Args:
        recipe: The architecture, with its arguments for this size.
        size: The size of the image that is traced.

    Returns:
        What of it can be cut.
    """
    return _structure_of(recipe.name.partition(".")[0], tuple(sorted(recipe.arguments.items())), size)


@cache
def _structure_of(architecture: str, arguments: tuple[tuple[str, Any], ...], size: ImageSize) -> Structure:
    traced = size.to_json()
    identity = {"architecture": architecture, "pixels": traced, "arguments": arguments}
    return kept_structure(identity, lambda: find_afresh(BuildRecipe(architecture, dict(arguments)), size))


def kept_structure(identity: Mapping[str, Any], find: Callable[[], Structure]) -> Structure:
    """The structure of an architecture from the user's cache folder, else found now and put there.

    Args:
        identity: Plain values that name the architecture and how it is traced.
        find: Finds the structure.

    Returns:
        What of the architecture can be cut.
    """
    finder = {"code": _code_digest(), "torch": torch.__version__, "timm": timm.__version__}
    described = {"finder": finder, "found_in": dict(identity)}
    path = Path(user_cache_folder(), "structures", f"{digest(described)}.json")
    try:
        return Structure.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: it is only a cache
        of_model = find()
    try:
        with replacing(path) as file:
            file.write(json.dumps(of_model.to_json()).encode())
    except OSError:  # a folder that cannot be written costs only time
        pass
    return of_model


@cache
def _code_digest() -> str:
    """Of what finds structures, which cuts to prove them: what another version has found is found again."""
    folder = Path(structure.__file__).parent
    models = [folder.parent / "models" / name for name in ("computed_weights.py", "surgery.py")]
    cuts = [*sorted(folder.rglob("*.py")), *models, *sorted((folder.parent / "compress").glob("*.py"))]
    return digest([path.read_text() for path in cuts])


def find_afresh(recipe: BuildRecipe, size: ImageSize) -> Structure:
    """The structure of an architecture, found now.

    Args:
        recipe: The architecture, with its arguments for this size.
        size: The size of the image that is traced.

    Returns:
        What of it can be cut.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED)
        model = recipe.create(num_classes=10)
        return find_structure(model, torch.randn(1, 3, *size.sides))
