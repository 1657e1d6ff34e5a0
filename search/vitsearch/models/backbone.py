"""The protocol of a family of backbones, and the values that pass between it and the other packages.

Nothing here imports torch at run time, because the driver reads these types too. The conformance test of a family is
`vitsearch.testing.families.BackboneTestCase`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vitsearch.core.image_size import ImageSize
from vitsearch.core.resolve import BlockStructure

if TYPE_CHECKING:
    import torch
    from torch import nn

    Layer = nn.Linear | nn.Conv2d
    """A linear layer, or a convolution of kernel size 1, which is a linear layer on pixels."""


@dataclass(frozen=True)
class ModelSpec:
    """The model to build.

    Attributes:
        backbone: A timm name (a tag may follow) or a built-in base.
        weights: `builtin`, `hub`, `none` or `file:PATH`.
        resolution: The size of the images.
        classes: The number of outputs of the head, such as classes; 0 for no head: the model then gives the features
            that one would read.
        channels: Channels of the images.
        window_size: The side of attention windows, in tokens; None for the family's own at the resolution.
        class_names: Of the data, in its order, where a network may know more classes or another order.
        trained_at: The size of the images that weights of a study were trained on, which are those of a model of ours;
            None for weights from elsewhere.
        gives_map: The model gives logits for each position of a map (`vitsearch.models.map_head`), not for the image. A
            network of the user's gives what its code says.
    """

    backbone: str
    weights: str
    resolution: ImageSize
    classes: int
    channels: int = 3
    window_size: int | None = None
    class_names: tuple[str, ...] = ()
    trained_at: ImageSize | None = None
    gives_map: bool = False


@dataclass(frozen=True, eq=False)
class Built:
    """A model in evaluation mode.

    Attributes:
        model: Takes float32 images (batch, channels, height, width), gives logits (batch, classes), or
            (batch, classes, height / 4, width / 4).
        head_is_new: Its classifier (or, with another number of channels, its first layer) was not loaded unchanged, so
            the model must be trained first.
    """

    model: nn.Module
    head_is_new: bool


@dataclass(frozen=True, eq=False)
class Branch:
    """Where a residual branch leaves the stream and where it is added to it.

    Modules between the last layer of the branch and the addition may only scale channels and move positions.

    Attributes:
        leaves: The module whose input is the stream that the branch is added to.
        joins: After the addition the stream is the output of this module.
        at_input: The stream is the input of `joins` instead.
    """

    leaves: nn.Module
    joins: nn.Module
    at_input: bool = False


@dataclass(frozen=True, eq=False)
class BlockUnits:
    """The layers of one block that are cut, scored and refitted. They are the model's own layers, not copies.

    Activations are observed at the inputs of `proj` and `fc2`, and the refit writes into these two layers. Where a
    block has nothing to cut, they are None and it has 0 heads. A dropped block is replaced by an identity and has no
    units.

    Attributes:
        name: The path of the block in the model.
        heads: The number of attention heads.
        head_dim: Columns of `proj` that belong to one head.
        proj: Reads the outputs of all heads, side by side: weight (width, heads * head_dim).
        fc1: Makes the neurons of the FFN (or a convolution of any size does): weight (neurons, width).
        fc2: Reads them, `ffn_grain` columns each: weight (width, neurons). Modules between the two must not mix
            neurons.
        proj_norm: A batch norm directly behind `proj`, which has no bias then: it holds the constant of the refit.
        fc2_norm: The same behind `fc2`.
        head_runs: Outputs of a head (one for each scale), if several: so many rows of equal width follow each other.
        proj_branch: The stream that the output of `proj` is added to, for the sequential refit; None where there is
            none.
        fc2_branch: The same for `fc2`.
        removable: The module `name` is residual, and its output has the shape of its input.
        ffn_grain: Neighbouring channels that stay or go together; they count as one neuron.
        is_scored_whole: The importance of the block is that of the output of the module `name`, because it holds more
            than `proj` and `fc2`.
    """

    name: str
    heads: int
    head_dim: int
    proj: Layer | None
    fc1: Layer | None
    fc2: Layer | None
    proj_norm: nn.Module | None = None
    fc2_norm: nn.Module | None = None
    head_runs: int = 1
    proj_branch: Branch | None = None
    fc2_branch: Branch | None = None
    removable: bool = False
    ffn_grain: int = 1
    is_scored_whole: bool = False

    @classmethod
    def dropped(cls, name: str) -> BlockUnits:
        """Describe a block that was replaced by an identity.

        Args:
            name: The path of the block in the model.

        Returns:
            Units with nothing to cut.
        """
        return cls(name, 0, 0, None, None, None)

    def head_columns(self, heads: Sequence[int]) -> list[int]:
        """Find the columns of `proj` that belong to heads.

        Args:
            heads: Indices of heads.

        Returns:
            `head_dim` indices for each of them; all of the first of `head_runs` come first.
        """
        width = self.head_dim // self.head_runs
        row = self.heads * width
        return [
            run * row + head * width + column
            for run in range(self.head_runs)
            for head in heads
            for column in range(width)
        ]

    @property
    def ffn_width(self) -> int:
        """The number of neurons of the FFN; 0 without one."""
        return 0 if self.fc2 is None else int(self.fc2.weight.shape[1]) // self.ffn_grain

    def ffn_columns(self, neurons: Sequence[int]) -> list[int]:
        """Find the input channels of `fc2` that belong to neurons.

        Args:
            neurons: Indices of neurons.

        Returns:
            `ffn_grain` indices for each of them.
        """
        return [neuron * self.ffn_grain + column for neuron in neurons for column in range(self.ffn_grain)]


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads the residual stream through a norm.

    Attributes:
        name: The path of the layer in the model.
        norm: The norm over the channels of the stream.
        layer: Weight (outputs, channels of the stream).
    """

    name: str
    norm: nn.Module
    layer: nn.Linear


class Backbone(Protocol):
    """One family of backbones.

    Guarantees: `units(model)` and `block_structure(model, spec).blocks` list the same blocks in the same order, also
    for a cut model. A model without some heads equals, to 1e-5, the whole model with those columns of `proj` set to
    zero. Everything that `supports` allows works in `build`, `slice_heads` and the export.

    Attributes:
        family: The name under which it is registered.
    """

    family: str

    def claims(self, name: str) -> bool:
        """Decide whether a name belongs to this family.

        Args:
            name: A timm name, with or without a tag, or a built-in base.

        Returns:
            Whether this family builds it.
        """
        ...

    def variants(self) -> tuple[str, ...]:
        """List all names that the family claims.

        Returns:
            The names, without tags.
        """
        ...

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        """Say whether a model can be built with a knob at a value.

        Args:
            name: A timm name or a built-in base.
            knob: weights, resolution, window_size, depth_pruning_ratio, embed_pruning_ratio, head_pruning_ratio,
                ffn_pruning_ratio, weight_sparsity, token_pruning_ratio, token_pruning_method, token_pruning_at,
                distillation, quantization or quantized_ops. `window_size@192` asks whether a window fits at 192 pixels,
                `window_size@192x256` at 192 rows of 256;
                without a resolution, whether the model has windows at all. A knob that does not concern backbones is
                always supported.
            value: As a plan has it.

        Returns:
            None if it can, else the reason, in one sentence.
        """
        ...

    def native_resolution(self, name: str) -> ImageSize:
        """Look up at which size a model's weights were trained.

        Args:
            name: A timm name or a built-in base.

        Returns:
            The size of the images.
        """
        ...

    def windows(self, name: str, resolution: ImageSize) -> tuple[int, ...]:
        """List the windows that a model can be built with.

        Args:
            name: A timm name or a built-in base.
            resolution: The size of the images.

        Returns:
            Sides of windows, in tokens; empty for a model without windows.
        """
        ...

    def own_window(self, name: str, resolution: ImageSize) -> int | None:
        """Look up the default window of a model.

        Args:
            name: A timm name or a built-in base.
            resolution: The size of the images.

        Returns:
            The side of the window, in tokens; None if it is not one of `windows`.
        """
        ...

    def why_no_map(self, name: str) -> str | None:
        """Say why models of a name cannot give logits for each position of a map.

        Args:
            name: A name that the family claims.

        Returns:
            The reason, which completes "NAME ..."; None if they can (`vitsearch.models.map_head`), or if the user's
            code decides what they give.
        """
        return None

    def build(self, spec: ModelSpec) -> Built:
        """Build a new model with its starting weights.

        Args:
            spec: The model.

        Returns:
            The model in evaluation mode.

        Raises:
            WeightsError: The weights cannot be found or do not fit.
            PlanError: The resolution or the window is not supported.
        """
        ...

    def block_structure(self, model: nn.Module, spec: ModelSpec) -> BlockStructure:
        """Describe what can be cut from a model in its present state.

        Args:
            model: Built by `build`, and possibly cut.
            spec: With which it was built.

        Returns:
            The shapes of its blocks, in the order of `units`.
        """
        ...

    def structure_digest(self, model: nn.Module) -> str:
        """Name the found structure that the units belong to.

        Args:
            model: Built by `build`, and possibly cut.

        Returns:
            The SHA-256 of the structure; empty if the family declares its units.
        """
        ...

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        """List the layers behind the block structure.

        Args:
            model: Built by `build`, and possibly cut.

        Returns:
            The units of each block, in a fixed order.
        """
        ...

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        """Remove heads from one block, in place.

        Args:
            model: Built by `build`, and possibly cut.
            block: The index of the block in `units`.
            kept: Indices of the heads that stay, ascending.
        """
        ...

    def slice_ffn(self, model: nn.Module, kept: Mapping[int, Sequence[int]], images: torch.Tensor) -> None:
        """Remove neurons from blocks, in place.

        Args:
            model: Built by `build`, and possibly cut.
            kept: Indices of the neurons that stay, ascending, by the index of the block in `units`.
            images: One image (1, channels, height, width), for tracing.

        Raises:
            StageError: The layers cannot be cut.
        """
        ...

    def slice_stream(self, model: nn.Module, kept: Sequence[int]) -> None:
        """Remove channels of the residual stream, in place. Called only if `supports` allows `embed_pruning_ratio`.

        A norm over fewer channels takes mean and variance over these alone. So the cut model equals, to 1e-5, not the
        model with the other channels masked, but the one whose norms read only the kept channels and give zero for the
        others.

        Args:
            model: Built by `build`, and possibly cut.
            kept: Indices of the channels that stay, ascending.
        """
        ...

    def stream_readers(self, model: nn.Module) -> tuple[Reader, ...]:
        """List the layers of the blocks that read the stream, without classifiers.

        Args:
            model: Built by `build`, and possibly cut. A cut model has the remaining readers of its base, under the same
                names.

        Returns:
            The layers in their order in the model; none if the stream is not cut.
        """
        ...

    def deployable(self, model: nn.Module) -> nn.Module:
        """Make the model that ships. See `vitsearch.export.deploy.deployed`.

        Args:
            model: A trained model. It is not changed.

        Returns:
            `model` itself, or a copy in which branches that only training needs are merged. The copy gives the same
            outputs; `units` does not work on it.
        """
        ...
