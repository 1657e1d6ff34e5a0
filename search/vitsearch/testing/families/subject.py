"""The small model under test, and helpers that build, cut and run it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.backbones.weights import BuildRecipe
from vitsearch.compress import prune
from vitsearch.core.image_size import ImageSize
from vitsearch.core.onnx_exporters import exporter_of
from vitsearch.core.resolve import BlockStructure, ResolvedBlock, ResolvedPlan
from vitsearch.export.graph.onnx_file import OnnxReport, write_onnx
from vitsearch.models.backbone import ModelSpec
from vitsearch.models.surgery import raise_layer_scales

TOLERANCE = 1e-5
"""Of the largest output, where two ways to compute it are equal in exact arithmetic."""
EXPORT_PARITY = 1e-4
"""Allowed difference between the exported file and torch, of the largest logit."""


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A cut model and the fp32 file of what ships."""

    cut: nn.Module
    path: Path
    report: OnnxReport


class Subject:
    """Base of all test classes; see `vitsearch.testing.families.VariantTestCase` for the attributes.

    `arguments` are passed to timm's constructor when the family builds a model, for instance fewer blocks:
    the tests take time in proportion to the number of blocks. Only for families that derive from `TimmFamily`.
    """

    spec: ClassVar[ModelSpec]
    other_resolution: ClassVar[ImageSize]
    unsupported: ClassVar[tuple[tuple[str, Any], ...]]
    arguments: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    cuts_heads: ClassVar[bool] = True
    cuts_ffn: ClassVar[bool] = True

    # ---- fixtures, shared by all tests of a class because they are slow to make

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def smaller_model(cls) -> Iterator[None]:
        """Let the family build its models with `arguments`."""
        with smaller_models(cls.spec.backbone, cls.arguments):
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def shared_cut(cls, smaller_model: None) -> nn.Module:
        """The model without every second head and FFN channel; tests must not change it."""
        case = cls()
        whole, block_structure = case._model()
        case._prune(whole, case._every_second_unit(block_structure, cls.cuts_heads, cls.cuts_ffn))
        return whole

    @pytest.fixture
    def cut(self, shared_cut: nn.Module) -> nn.Module:
        """A copy of `shared_cut` to change."""
        return copy.deepcopy(shared_cut)

    @pytest.fixture(scope="class")
    @classmethod
    def exported(cls, shared_cut: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
        case = cls()
        ships = case._ships(copy.deepcopy(shared_cut))
        path = tmp_path_factory.mktemp("exported") / "fp32.onnx"
        exporter = exporter_of(case.spec.backbone)
        report = write_onnx(ships, tuple(case._images().shape), path, exporter=exporter)
        return ExportedModel(shared_cut, path, report)

    # ---- helpers

    def _model(self, resolution: ImageSize | None = None) -> tuple[nn.Module, BlockStructure]:
        spec = replace(self.spec, resolution=resolution or self.spec.resolution)
        model = copy.deepcopy(_built(spec, tuple(self.arguments.items())))
        return model, backbones.find(spec.backbone).block_structure(model, spec)

    def _images(self, resolution: ImageSize | None = None) -> torch.Tensor:
        size = resolution or self.spec.resolution
        return torch.randn(2, self.spec.channels, *size.sides, generator=torch.Generator().manual_seed(0))

    def _logits(self, model: nn.Module, resolution: ImageSize | None = None) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = model.eval()(self._images(resolution))
        return logits

    def _ships(self, model: nn.Module) -> nn.Module:
        return backbones.find(self.spec.backbone).deployable(model)

    def _export(self, model: nn.Module, resolution: ImageSize | None = None) -> OnnxReport:
        """Export `model` as it ships, to a temporary file."""
        with tempfile.TemporaryDirectory() as folder:
            path, exporter = Path(folder) / "model.onnx", exporter_of(self.spec.backbone)
            return write_onnx(self._ships(model), tuple(self._images(resolution).shape), path, exporter=exporter)

    def _parameters_without_gradient(self, model: nn.Module) -> list[str]:
        """Names of the parameters that a training step of `model` does not reach."""
        loss = nn.functional.cross_entropy(model.train()(self._images()), torch.tensor([0, 1]))
        loss.backward()  # type: ignore[no-untyped-call]
        return [name for name, value in model.named_parameters() if value.grad is None]

    def _every_second_unit(self, block_structure: BlockStructure, heads: bool, ffn: bool) -> ResolvedPlan:
        """Keep every second unit; the first one kept alternates between the blocks."""
        blocks = tuple(
            ResolvedBlock(
                _every_second(block.heads, index) if heads else tuple(range(block.heads)),
                _every_second(block.ffn_width, index) if ffn else tuple(range(block.ffn_width)),
            )
            for index, block in enumerate(block_structure.blocks)
        )
        return ResolvedPlan(block_structure.backbone, block_structure.resolution, None, blocks)

    def _narrow(self, block_structure: BlockStructure) -> ResolvedPlan:
        """Every second unit, and three of four channels of the residual stream where the family can cut it."""
        resolved = self._every_second_unit(block_structure, self.cuts_heads, self.cuts_ffn)
        refused = backbones.supports(self.spec.backbone, "embed_pruning_ratio", 0.25)
        return resolved if refused else replace(resolved, embed=three_of_four(block_structure.embed_dim))

    def _prune(self, model: nn.Module, resolved: ResolvedPlan, resolution: ImageSize | None = None) -> None:
        prune.apply(model, backbones.find(self.spec.backbone), resolved, self._images(resolution)[:1])

    def _pruned(self, model: nn.Module, resolved: ResolvedPlan) -> nn.Module:
        cut = copy.deepcopy(model)
        self._prune(cut, resolved)
        return cut


@contextmanager
def smaller_models(name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Let the family of `name` build all models with these `arguments` of timm's constructor too."""
    family = cast(Any, backbones.find(name))
    with pytest.MonkeyPatch.context() as patch:
        if arguments:
            original = family.recipe

            def recipe(name: str, resolution: ImageSize | None = None) -> BuildRecipe:
                base_recipe: BuildRecipe = original(name, resolution)
                return replace(base_recipe, arguments={**base_recipe.arguments, **arguments})

            patch.setattr(family, "recipe", recipe)
        yield


@lru_cache(maxsize=2)
def _built(spec: ModelSpec, arguments: tuple[tuple[str, Any], ...]) -> nn.Module:
    """Build once: drawing random weights takes longer than most of the tests.

    `arguments` are those that the family adds, part of the key only.
    """
    model = backbones.find(spec.backbone).build(spec).model
    raise_layer_scales(model)
    return model


def three_of_four(size: int) -> tuple[int, ...]:
    return tuple(index for index in range(size) if index % 4)


def _every_second(size: int, first: int) -> tuple[int, ...]:
    return tuple(range(first % 2, size, 2)) or tuple(range(size))
