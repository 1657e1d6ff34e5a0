"""Base class of families of timm models: names, starting weights, and reasons that hold for all of them.

A family is one file with a subclass of `TimmFamily`. It gives the timm modules of its models, the units of a
model, how heads are sliced, and which resolutions are valid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
from torch import nn

from vitsearch.backbones.builtin import BUILTIN
from vitsearch.backbones.valid_sizes import img_size
from vitsearch.backbones.weights import BuildRecipe, build, weights_path
from vitsearch.backbones.window_sizes import SMALLEST_WINDOW, clipped, fitting
from vitsearch.compress import prune, sparsity
from vitsearch.core.image_size import ImageSize, Sides
from vitsearch.core.precisions import AUTO
from vitsearch.core.resolve import BlockShape, BlockStructure
from vitsearch.errors import PlanError, WeightsError
from vitsearch.models import map_head
from vitsearch.models.backbone import BlockUnits, Built, ModelSpec, Reader
from vitsearch.models.onnx_format import MAX_BYTES
from vitsearch.training.distillation import supports_token


class TimmFamily(ABC):
    """A `vitsearch.models.backbone.Backbone` whose models are timm's.

    Attributes:
        family: The name under which it is registered.
        modules: The timm modules whose models belong to it, with all variants and tags.
        why_no_heads: Completes the sentence "NAME ..." for models whose heads cannot be pruned; likewise each
            `why_no_*`.
        why_no_ffn: For models whose FFN cannot be pruned.
        why_no_windows: For models without windows.
        why_no_tokens: For models whose tokens cannot be pruned.
        why_no_depth: For models of which no block can be dropped.
        why_no_embed: For models whose stream cannot be cut.
        why_one_form: For models whose int8 files have one form.
        why_no_token: For models without a distillation head.
    """

    family: str
    modules: tuple[str, ...]
    why_no_heads: ClassVar[str]
    why_no_ffn: ClassVar[str]
    why_no_windows: ClassVar[str] = "attends over the whole image and has no windows"
    why_no_tokens: ClassVar[str]
    why_no_depth: ClassVar[str] = "has fewer than two blocks that are residual as a whole, so none can be dropped"
    why_no_embed: ClassVar[str] = "has stages of different widths; only the single stream of a plain ViT can be cut"
    why_one_form: ClassVar[str] = "has no convolutions besides its patch embedding, so its int8 files have one form"
    why_no_token: ClassVar[str] = "has no distillation head; deit_*_distilled_*, LeViT and EfficientFormer have one"

    # ---- implemented by each family

    @abstractmethod
    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        """List the layers of each block. See `vitsearch.models.backbone.Backbone.units`.

        Args:
            model: Built by `build`, and possibly cut.

        Returns:
            The units of each block, in a fixed order.
        """

    @abstractmethod
    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        """Remove heads from one block, in place. Called only for blocks whose units have heads.

        Args:
            model: Built by `build`, and possibly cut.
            block: The index of the block in `units`.
            kept: Indices of the heads that stay, ascending.
        """

    @abstractmethod
    def tokens(self, model: nn.Module, resolution: ImageSize) -> int:
        """Count the tokens that the first attention sees.

        Args:
            model: Built by `build`, and possibly cut.
            resolution: The size of the images.

        Returns:
            The number of tokens, prefix tokens included; 0 without attention.
        """

    @abstractmethod
    def embed_dim(self, model: nn.Module) -> int:
        """Count the channels of the last stage.

        Args:
            model: Built by `build`, and possibly cut.

        Returns:
            The number of channels.
        """

    def prefix_tokens(self, model: nn.Module) -> int:
        """Count the tokens in front of the patches: class, distillation, registers.

        Args:
            model: Built by `build`, and possibly cut.

        Returns:
            The number of tokens.
        """
        return 0

    def refused_resolution(self, name: str, size: ImageSize) -> str | None:
        """Say why a model cannot be built at a size.

        Args:
            name: A timm name or a built-in base.
            size: The size of the images.

        Returns:
            The reason, in one sentence; None if it can be built.
        """
        return None

    def resolution_arguments(self, name: str, size: ImageSize) -> dict[str, Any]:
        """Give the arguments of timm's constructor for a size.

        Args:
            name: A timm name or a built-in base.
            size: The size of the images.

        Returns:
            Keyword arguments of `timm.create_model`.
        """
        return {"img_size": img_size(size)}

    def deployable(self, model: nn.Module) -> nn.Module:
        return model

    def slice_ffn(self, model: nn.Module, kept: Mapping[int, Sequence[int]], images: torch.Tensor) -> None:
        prune.cut_by_dependencies(model, self, kept, images)

    def slice_stream(self, model: nn.Module, kept: Sequence[int]) -> None:
        """Remove channels of the residual stream, in place. Called only for families that support
        `embed_pruning_ratio`.

        Args:
            model: Built by `build`, and possibly cut.
            kept: Indices of the channels that stay, ascending.

        Raises:
            PlanError: The family does not support it.
        """
        raise PlanError(f"family {self.family}: a model {self.why_no_embed}")

    def stream_readers(self, model: nn.Module) -> tuple[Reader, ...]:
        return ()

    def maps(self, name: str, size: ImageSize) -> tuple[Sides, ...]:
        """Give the maps of the stages that attend in windows.

        Args:
            name: A timm name or a built-in base.
            size: The size of the images.

        Returns:
            Rows and columns of the map of each such stage, in tokens; empty for families without windows.
        """
        return ()

    def own_windows(self, name: str, size: ImageSize) -> tuple[Sides, ...]:
        """Give the default windows of the stages of `maps`.

        Args:
            name: A timm name or a built-in base.
            size: The size of the images.

        Returns:
            Rows and columns of the windows of each of `maps`, in tokens.
        """
        return ()

    def window_arguments(self, name: str, size: ImageSize, window: int) -> dict[str, Any]:
        """Give the arguments of timm's constructor for a window. Called only for families that have `maps`.

        Args:
            name: A timm name or a built-in base.
            size: The size of the images.
            window: The side of the windows, in tokens: one of `windows`.

        Returns:
            Keyword arguments of `timm.create_model`.
        """
        raise NotImplementedError

    @staticmethod
    def window_on(side: int, on_map: Sides) -> Sides:
        """Give the window that a stage has on its map.

        Args:
            side: Of the windows that are asked for, in tokens.
            on_map: Rows and columns of the map.

        Returns:
            Rows and columns of the window: at most those of the map.
        """
        return clipped(side, on_map)

    # ---- the same for all families

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.family == self.family

    def __hash__(self) -> int:
        return hash((type(self), self.family))

    def windows(self, name: str, resolution: ImageSize) -> tuple[int, ...]:
        if self.refused_resolution(name, resolution) is not None:
            return ()
        return fitting(self.maps(name, resolution), self.window_on)

    def own_window(self, name: str, resolution: ImageSize) -> int | None:
        maps, own = self.maps(name, resolution), self.own_windows(name, resolution)
        windows = self.windows(name, resolution)
        return next((side for side in windows if tuple(self.window_on(side, each) for each in maps) == own), None)

    def claims(self, name: str) -> bool:
        if name in BUILTIN:
            return BUILTIN[name].family == self.family
        return bool(timm.models.is_model_in_modules(name.partition(".")[0], self.modules))

    def variants(self) -> tuple[str, ...]:
        ours = [name for name, base in BUILTIN.items() if base.family == self.family]
        return tuple(sorted({*ours, *(n for module in self.modules for n in timm.list_models(module=module))}))

    def native_resolution(self, name: str) -> ImageSize:
        if name in BUILTIN:
            return BUILTIN[name].resolution
        return ImageSize(*timm.models.get_pretrained_cfg(name).input_size[-2:])

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        if knob == "weights":
            return _refused_weights(name, str(value)) or self._misfit(name, str(value))
        if knob == "resolution":
            return self.refused_resolution(name, value)
        if knob.partition("@")[0] == "window_size" and value is not None:
            return self._refused_window(name, knob.partition("@")[2], int(value))
        if knob == "head_pruning_ratio" and value and not any(unit.heads for unit in self._unbuilt_units(name)):
            return f"{name} {self.why_no_heads}"
        if knob == "ffn_pruning_ratio" and value and not any(unit.ffn_width for unit in self._unbuilt_units(name)):
            return f"{name} {self.why_no_ffn}"
        if knob in ("token_pruning_ratio", "token_pruning_method", "token_pruning_at") and value:
            return f"{name} {self.why_no_tokens}"
        if knob == "depth_pruning_ratio" and value:
            return None if self._removable(name) > 1 else f"{name} {self.why_no_depth}"
        if knob == "embed_pruning_ratio" and value:
            return f"{name} {self.why_no_embed}"
        if knob == "quantization":
            return self._refused_export(name)
        if knob == "quantized_ops" and value != AUTO:
            return None if self._has_convolutions(name) else f"{name} {self.why_one_form}"
        if knob == "weight_sparsity" and value != "none" and not sparsity.layers(self.unbuilt(name)):
            return f"{name} has no layers that could be sparse"
        if knob == "distillation" and value in ("token", "token_hard"):
            return None if supports_token(self.unbuilt(name)) else f"{name} {self.why_no_token}"
        return None

    def why_no_map(self, name: str) -> str | None:
        model, recipe = self.unbuilt(name), self.recipe(name)
        channels = recipe.arguments.get("in_chans", recipe.config.input_size[0])
        with torch.device("meta"):
            return map_head.why_no_map(model, torch.zeros(1, channels, *self.native_resolution(name).sides))

    def build(self, spec: ModelSpec) -> Built:
        reason = self.supports(spec.backbone, "resolution", spec.resolution)
        reason = reason or self.supports(spec.backbone, f"window_size@{spec.resolution}", spec.window_size)
        if reason is not None:
            raise PlanError(reason)
        recipe = self.recipe(spec.backbone, spec.resolution)
        if spec.window_size is not None:
            windows = self.window_arguments(spec.backbone, spec.resolution, spec.window_size)
            recipe = replace(recipe, arguments={**recipe.arguments, **windows})
        return build(spec, recipe)

    def recipe(self, name: str, resolution: ImageSize | None = None) -> BuildRecipe:
        """Give what timm needs to build a model, with its default windows.

        Args:
            name: A timm name or a built-in base.
            resolution: The size of the images; None for the native one.

        Returns:
            The architecture and its arguments.
        """
        if name in BUILTIN:
            base = BUILTIN[name]
            size = self.resolution_arguments(name, resolution or base.resolution)
            return BuildRecipe(base.architecture, {**base.arguments, **size})
        if resolution is None or resolution == self.native_resolution(name):
            return BuildRecipe(name, {})
        return BuildRecipe(name, self.resolution_arguments(name, resolution))

    def block_structure(self, model: nn.Module, spec: ModelSpec) -> BlockStructure:
        blocks = tuple(
            BlockShape(u.name, u.heads, u.head_dim, u.ffn_width, u.removable, u.ffn_grain) for u in self.units(model)
        )
        size = self.embed_dim(model), self.tokens(model, spec.resolution)
        prefix = self.prefix_tokens(model)
        digest = self.structure_digest(model)
        return BlockStructure(spec.backbone, spec.resolution, *size, blocks, spec.window_size, prefix, digest)

    def structure_digest(self, model: nn.Module) -> str:
        return ""

    def _refused_export(self, name: str) -> str | None:
        """Why no file of `name` can be written, at any precision: all are made from the fp32 file."""
        size = _fp32_bytes(self.unbuilt(name))
        if size < MAX_BYTES:
            return None
        return f"{name} cannot be exported: its weights take {size / 1e9:.1f} GB in fp32, an ONNX file at most 2.1 GB"

    def _has_convolutions(self, name: str) -> bool:
        """Whether `name` has more convolutions than the one that a patch embedding is."""
        return sum(isinstance(module, nn.Conv2d) for module in self.unbuilt(name).modules()) > 1

    def _removable(self, name: str) -> int:
        return sum(unit.removable for unit in self._unbuilt_units(name))

    def unbuilt(self, name: str) -> nn.Module:
        """Build a model without memory for its weights (torch's meta device), to look at its layers.

        Args:
            name: A timm name or a built-in base.

        Returns:
            The model at its native size. All callers share it: it must not be changed.
        """
        recipe = self.recipe(name)
        return _unbuilt(recipe.name, tuple(sorted(recipe.arguments.items())))

    def _refused_window(self, name: str, resolution: str, window: int) -> str | None:
        """Why `window` does not fit. Without a resolution, any window of at least two tokens is accepted."""
        size = ImageSize.of_text(resolution) if resolution else self.native_resolution(name)
        if not self.maps(name, size):
            return f"{name} {self.why_no_windows}"
        windows = self.windows(name, size)
        if not windows:
            least = "maps of one token" if size.is_square else "maps that no windows of equal sides divide"
            return self.refused_resolution(name, size) or f"{name} has {least} at {size} pixels, so no windows"
        if window in windows or (not resolution and window >= SMALLEST_WINDOW):
            return None
        allowed = ", ".join(map(str, windows))
        return f"windows of side {window} do not divide the maps of {name} at {size} pixels; allowed: {allowed}"

    def _misfit(self, name: str, weights: str) -> str | None:
        """Why the file of `file:PATH` does not hold weights of `name`."""
        if not weights.startswith("file:"):
            return None
        path = weights_path(name, weights)
        return _misfit(self, name, path, path.stat().st_mtime_ns)

    def _unbuilt_units(self, name: str) -> tuple[BlockUnits, ...]:
        return self.units(self.unbuilt(name))


@cache
def _unbuilt(name: str, arguments: tuple[tuple[str, Any], ...]) -> nn.Module:
    with torch.device("meta"):
        return BuildRecipe(name, dict(arguments)).create()


@cache
def _misfit(family: TimmFamily, name: str, path: Path, changed_ns: int) -> str | None:
    """Why the weights in the file `path`, last changed at `changed_ns`, are not those of `name`."""
    try:
        family.build(ModelSpec(name, f"file:{path}", family.native_resolution(name), classes=1))
    except WeightsError as error:
        return str(error)
    return None


def _refused_weights(name: str, weights: str) -> str | None:
    if weights == "none":
        return None
    if weights == "hub":
        if name in BUILTIN:
            return f"{name} ships with vitsearch and is not on the hub: use builtin"
        return None if timm.models.is_model_pretrained(name) else f"timm has no pretrained weights for {name}"
    try:
        weights_path(name, weights)
    except WeightsError as error:
        return str(error)
    return None


@cache
def _fp32_bytes(model: nn.Module) -> int:
    """The size of the weights of a model in fp32; asked for every precision of every plan."""
    return 4 * sum(parameter.numel() for parameter in model.parameters())
