"""Families of timm models of which what can be cut is found, not declared.

Heads, hidden channels and residual blocks are those of the found structure (`vitsearch.structure`). A family that
derives from `FoundFamily` adds what no structure can know, such as windows or two classifiers; a timm module that no
family claims (`resnet`, `convnext`, ...) is a `FoundModule`. Tokens and a residual stream that can be cut need a
declared family: see docs/add_a_family.md.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

import timm
import torch
from timm.models import reparameterize_model
from torch import nn

from vitsearch.backbones.found_structures import PIXELS, structure_of
from vitsearch.backbones.tables import resample_tables
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.backbones.valid_sizes import img_size
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.compress.sequential import classifiers
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import PlanError, StageError, first_line
from vitsearch.models.backbone import BlockUnits, Branch, Built, ModelSpec
from vitsearch.structure import heads as attention
from vitsearch.structure import widths
from vitsearch.structure.levels import Levels, levels_of
from vitsearch.structure.values import Addition, Part, Structure

STRUCTURE = "found_structure"
"""Attribute of a model that holds its structure."""
NO_CLASSIFIER = "not one logit for each class, so it is not a classifier"
CLASSES = 7
"""Of a model that is built to see whether it gives a logit for each class."""
MERGING = ("fuse", "reparameterize", "switch_to_deploy")
"""What timm calls to merge the branches of a module."""
META = re.compile(r"\bmeta\b", re.IGNORECASE)
STEP = 32
"""Sizes whose sides are multiples of it are named when another one is refused."""


def module_of(name: str) -> str | None:
    """The timm module of an architecture; None if timm does not have it."""
    architecture = name.partition(".")[0]
    if not timm.models.is_model(architecture):
        return None
    return str(timm.models.model_entrypoint(architecture).__module__).rpartition(".")[2]


class FoundFamily(TimmFamily):
    """A family whose structure is found; see `vitsearch.models.backbone.Backbone`.

    Deriving from it, a family writes down its timm modules, and of the rest only what is truer than the defaults here:
    windows, sizes, recipes, reasons.
    """

    why_no_windows = "has no windows that vitsearch can choose"
    why_no_tokens = "is no plain ViT, the only models of which tokens can be dropped"
    why_no_heads = "has no attention heads that can be removed exactly"
    why_no_ffn = "has no hidden channels that can be removed exactly"
    why_no_depth = "has fewer than two blocks with something to cut that give back their input when they add nothing"
    why_one_form = "has no convolutions besides its patch embedding, so its int8 files have one form"

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        if knob == "quantization" and value in ("int8_qat", "int8_mixed") and not self._has_linear_layers(name):
            without = "nothing to train for int8" if value == "int8_qat" else "nothing to mix"
            return f"{name} has no linear layers besides its classifier, so there is {without}"
        reason = super().supports(name, knob, value)
        is_generic = self.why_no_heads == FoundFamily.why_no_heads
        if reason is not None and knob == "head_pruning_ratio" and is_generic:
            return f"{reason}{self._refused_heads(name)}"
        return reason

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        problem = self.size_problem(name, size)
        if problem is None:
            return None
        if problem.endswith(NO_CLASSIFIER):
            return f"{name} cannot be searched: {problem}"
        native = self.native_resolution(name)
        taken = {near for near in (*_around(size), native) if self.size_problem(name, near) is None}
        near = f"; sizes that it takes: {', '.join(map(str, sorted(taken)))}" if taken else ""
        return f"{name} cannot be built at {size} pixels: {problem}{near}"

    def _refused_export(self, name: str) -> str | None:
        problem = self.size_problem(name, self.native_resolution(name))
        if problem is not None and problem.endswith(NO_CLASSIFIER):
            return f"{name} cannot be searched: {problem}"
        return super()._refused_export(name)

    def size_problem(self, name: str, size: ImageSize) -> str | None:
        """Say why a model cannot take images of a size.

        Args:
            name: A name of the family.
            size: The size of the images.

        Returns:
            What went wrong, in the words of the library; None if it can.
        """
        return _size_problem(name, size)

    def resolution_arguments(self, name: str, size: ImageSize) -> dict[str, Any]:
        return size_arguments(name, size)

    def recipe(self, name: str, resolution: ImageSize | None = None) -> BuildRecipe:
        return replace(super().recipe(name, resolution), resample=resample_tables, resample_own=resample_tables)

    def tokens(self, model: nn.Module, resolution: ImageSize) -> int:
        return 0

    def embed_dim(self, model: nn.Module) -> int:
        return int(getattr(model, "num_features", 0))

    def build(self, spec: ModelSpec) -> Built:
        built = super().build(spec)
        setattr(built.model, STRUCTURE, self.structure(spec.backbone))
        return built

    def structure(self, name: str) -> Structure:
        """What of a model can be cut.

        Args:
            name: A timm name.

        Returns:
            Its structure; an empty one if no file of it could be written.
        """
        size = self.traced_size(name)
        if self._refused_export(name) is not None or self.refused_resolution(name, size) is not None:
            return Structure()
        return structure_of(self.recipe(name, size), size)

    def traced_size(self, name: str) -> ImageSize:
        """Choose the size at which the structure is found.

        Args:
            name: A timm name.

        Returns:
            The smallest square that leaves a last map of two positions a side: on a map of one, a width looks like a
            squeeze. Where no smaller one is taken, the native size.
        """
        native = self.native_resolution(name)
        sizes = map(ImageSize.square, range(max(PIXELS, 2 * self._stride(name)), min(native.sides), STEP))
        return next((size for size in sizes if self.refused_resolution(name, size) is None), native)

    def levels(self, name: str) -> Levels:
        """Count what of a model can be cut.

        Args:
            name: A timm name.

        Returns:
            The counts by class of module.
        """
        return levels_of(self.unbuilt(name), self.structure(name))

    @staticmethod
    def structure_of(model: nn.Module) -> Structure:
        """Read the structure that a model carries.

        Args:
            model: Built by `build`, and possibly cut.

        Returns:
            What of the whole model can be cut.
        """
        structure: Structure = getattr(model, STRUCTURE)
        return structure

    def structure_digest(self, model: nn.Module) -> str:
        return self.structure_of(model).digest

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return tuple(_units(model, part) for part in self.structure_of(model).parts)

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        part = self.structure_of(model).parts[block]
        if part.heads is None or not kept:
            raise PlanError(f"{part.name}: cannot keep heads {list(kept)} of {part.heads.count if part.heads else 0}")
        attention.keep_heads(model, part.heads, kept)

    def slice_ffn(self, model: nn.Module, kept: Mapping[int, Sequence[int]], images: torch.Tensor) -> None:
        for block, neurons in kept.items():
            part = self.structure_of(model).parts[block]
            if part.width is None:
                raise StageError("prune", "mismatch", f"{part.name} has no hidden channels that can be removed")
            widths.keep_channels(model, part.width, neurons)

    def deployable(self, model: nn.Module) -> nn.Module:
        """Merge a model's branches where it has some of timm's: the norms behind single layers are merged by the
        runtimes. What a user's own module calls `fuse` may be anything."""
        merging = [module for module in model.modules() if any(hasattr(module, name) for name in MERGING)]
        if not any(map(_merges_branches, model.modules())) or not all(map(_is_of_timm, merging)):
            return model
        return cast(nn.Module, reparameterize_model(model.eval()))

    def _unbuilt_units(self, name: str) -> tuple[BlockUnits, ...]:
        model = self.unbuilt(name)
        return tuple(_units(model, part) for part in self.structure(name).parts)

    def _stride(self, name: str) -> int:
        """How many pixels a position of the last map stands for, as timm notes it; 1 where it does not."""
        stages = getattr(self.unbuilt(name), "feature_info", None) or ()
        return max((stage["reduction"] for stage in stages if isinstance(stage, dict)), default=1)

    def _refused_heads(self, name: str) -> str:
        """The class and the reason of the first attention whose heads stay, in brackets."""
        reasons = self.levels(name).refusals
        return next((f" ({kind}: {reason})" for kind, reason in reasons.items()), "")

    def _has_linear_layers(self, name: str) -> bool:
        """Whether there are others than classifiers."""
        model = self.unbuilt(name)
        return any(isinstance(module, nn.Linear) for module in {*model.modules()} - {*classifiers(model)})


class FoundModule(FoundFamily):
    """All models of one timm module that no family claims.

    Args:
        module: The timm module.
    """

    def __init__(self, module: str) -> None:
        self.family = module
        self.modules = (module,)


def _units(model: nn.Module, part: Part) -> BlockUnits:
    if part.removable and isinstance(model.get_submodule(part.name), nn.Identity):
        return BlockUnits.dropped(part.name)
    heads, width = part.heads, part.width

    def module(name: str | None) -> Any:
        return None if name is None else model.get_submodule(name)

    return BlockUnits(
        part.name,
        attention.current_heads(model, heads) if heads else 0,
        heads.head_dim if heads else 0,
        module(heads.consumer if heads else None),
        module(width.producers[0] if width else None),
        module(width.consumer if width else None),
        proj_norm=module(part.heads_norm),
        fc2_norm=module(part.width_norm),
        proj_branch=_branch(model, part.heads_addition),
        fc2_branch=_branch(model, part.width_addition),
        removable=part.removable,
        ffn_grain=width.grain if width else 1,
        is_scored_whole=part.removable,
    )


def _is_of_timm(module: nn.Module) -> bool:
    return type(module).__module__.startswith("timm.")


def _merges_branches(module: nn.Module) -> bool:
    """Whether timm makes one layer of several in a module."""
    if not (hasattr(module, "reparameterize") or hasattr(module, "fuse")):
        return False
    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in module.modules()) > 1


def _branch(model: nn.Module, addition: Addition | None) -> Branch | None:
    if addition is None:
        return None
    return Branch(model.get_submodule(addition.leaves), model.get_submodule(addition.joins), addition.at_input)


def _around(size: ImageSize) -> Iterator[ImageSize]:
    """The nearest sizes whose sides are multiples of `STEP`."""
    for up in (0, STEP):
        sides = [side // STEP * STEP + up for side in size.sides]
        if min(sides) > 0:
            yield ImageSize(*sides)


def size_arguments(name: str, size: ImageSize) -> dict[str, Any]:
    """The arguments of timm's constructor for a size: none where a model takes it as it is."""
    return dict(_at_size(name.partition(".")[0], size)[0])


@cache
def _takes_size(architecture: str) -> bool:
    """Whether timm's constructor knows an argument for the size."""
    config = timm.models.get_pretrained_cfg(architecture)
    native = config.input_size[-1] if config is not None else 224
    try:
        with torch.device("meta"):
            timm.create_model(architecture, img_size=native)
    except TypeError:
        return False
    except Exception:  # noqa: BLE001 - it knows the argument, and refuses the value
        return True
    return True


def _size_problem(name: str, size: ImageSize) -> str | None:
    """Why a model cannot take images of a size, in the words of what went wrong; None if it can."""
    config = timm.models.get_pretrained_cfg(name)
    if config is not None and size.sides == tuple(config.input_size[-2:]):
        return _native_problem(name.partition(".")[0], size)
    return _at_size(name.partition(".")[0], size)[1]


@cache
def _native_problem(architecture: str, size: ImageSize) -> str | None:
    return _forward_problem(BuildRecipe(architecture, {}), size)


@cache
def _at_size(architecture: str, size: ImageSize) -> tuple[tuple[tuple[str, Any], ...], str | None]:
    """The arguments with which a model takes a size, and the problem if it takes it with none of them."""
    sized: dict[str, Any] = {"img_size": img_size(size)}
    possible = [sized, {}] if _takes_size(architecture) else [{}]
    problems = []
    for arguments in possible:
        problem = _forward_problem(BuildRecipe(architecture, arguments), size)
        if problem is None:
            return tuple(arguments.items()), None
        problems.append(problem)
    return tuple(possible[0].items()), problems[0]


def _forward_problem(recipe: BuildRecipe, size: ImageSize) -> str | None:
    """Why an image of this size does not go through a model, tried without values on the meta device."""
    try:
        with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = recipe.create(num_classes=CLASSES)(torch.zeros(1, 3, *size.sides))
    except Exception as error:  # noqa: BLE001 - whatever timm or torch raises is the answer
        reason = first_line(error) or type(error).__name__
        return f"its forward depends on the values of tensors ({reason})" if META.search(reason) else reason
    if not torch.is_tensor(output) or tuple(output.shape) != (1, CLASSES):
        shape = tuple(output.shape) if torch.is_tensor(output) else type(output).__name__
        return f"it gives {shape} for one image, {NO_CLASSIFIER}"
    return None
