"""A network in an ONNX file: a family of its own, whose model is run as it is and of which nothing can be cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from vitsearch.backbones.onnx_reader import OnnxFile, read_onnx, with_classes
from vitsearch.backbones.single_network import SingleNetwork
from vitsearch.backbones.weights import weights_path
from vitsearch.backbones.weights_file import read_state, some
from vitsearch.compress.quantization.layers import convolutions, linears
from vitsearch.compress.quantization.onnx_graph import constants
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import NetworkFacts, OnnxNetwork
from vitsearch.core.precisions import AUTO, LINEAR
from vitsearch.core.resolve import BlockStructure
from vitsearch.core.targets import TARGETS
from vitsearch.errors import NetworkError, PlanError, WeightsError
from vitsearch.export.precision_shares import onnx_macs
from vitsearch.export.precision_shares.onnx_nodes import nodes
from vitsearch.models.backbone import BlockUnits, Built, ModelSpec, Reader
from vitsearch.models.onnx_model import OnnxModel, fixed_batch, is_quantized, opset_of
from vitsearch_agent.base.canonical_json import digest, file_digest

SCHEMA = 1
RATIOS = ("depth_pruning_ratio", "embed_pruning_ratio", "head_pruning_ratio", "ffn_pruning_ratio")
TOKENS = ("token_pruning_ratio", "token_pruning_method", "token_pruning_at")
TRAINED_ONLY = ("feature", "token", "token_hard")
NUMBERS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.UINT8})
"""Types of parameters."""


class OnnxFamily(SingleNetwork[OnnxNetwork]):
    """The family of one file; see `vitsearch.models.backbone.Backbone`.

    Args:
        network: The file.
    """

    def windows(self, name: str, resolution: ImageSize) -> tuple[int, ...]:
        return ()

    def own_window(self, name: str, resolution: ImageSize) -> int | None:
        return None

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        as_it_is = f"{name} is an ONNX file, which is run as it is"
        if knob == "weights":
            return None if str(value).startswith("file:") else f"{name} is an ONNX file, which has its own weights"
        if knob == "resolution" and value != self.network.resolution:
            return f"{as_it_is}: it takes images of {self.network.resolution} pixels"
        if knob.partition("@")[0] == "window_size" and value is not None:
            return f"{as_it_is}: its windows, if it has some, stay"
        if knob in (*RATIOS, *TOKENS) and value:
            return f"{as_it_is}: it cannot be pruned"
        if knob == "weight_sparsity" and value != "none":
            return f"{as_it_is}: its weights cannot be set to zero"
        if knob == "distillation" and value in TRAINED_ONLY:
            return f"{as_it_is}: it cannot be trained"
        if knob == "backend" and (target := TARGETS.get(str(value))) is not None and target.starts_from == "torch":
            return f"{name} is an ONNX file, and files for {target.title} are converted from a model in torch"
        if knob in ("backend", "batch", "quantization", "quantized_ops"):
            return self._refused_deployment(knob, str(value))
        return None

    def _refused_deployment(self, knob: str, word: str) -> str | None:
        name, model = self.network.name, read(self.network).model
        others = [target for target in TARGETS.values() if target.name != word and target.domain is not None]
        domains = {target.domain: target.name for target in others}
        if knob == "backend" and (own := next((n.domain for n in model.graph.node if n.domain in domains), None)):
            return f"{name} has operators that {domains[own]} alone has"
        if knob == "batch" and word != "1" and fixed_batch(model):
            return f"the graph of {name} fixes the number of images in a run to 1"
        if knob == "quantization" and word == "int8_qat":
            return f"{name} is an ONNX file, which is run as it is: it cannot be trained"
        if knob == "quantization" and word == "int8_mixed":
            return f"{name} is an ONNX file, and the sensitivity of layers is known of models in torch only"
        if knob == "quantization" and word != "fp32" and (kind := _reduced(model)) is not None:
            return f"{name} is {kind} already: its file runs as it is, under the precision fp32"
        if knob == "quantized_ops" and word not in (AUTO, LINEAR) and not any(convolutions(model.graph)):
            return f"{name} has no convolutions, so its int8 files have one form"
        return None

    def why_no_map(self, name: str) -> str | None:
        return "is an ONNX file, which is searched as a classifier"

    def build(self, spec: ModelSpec) -> Built:
        if (reason := self.supports(spec.backbone, "resolution", spec.resolution)) is not None:
            raise PlanError(reason)
        if spec.weights == "none":  # the cost of a file does not depend on its weights, so they are those of the file
            file = read(self.network)
            return Built(_model_of(file.model, self._shape(file.channels), 0), head_is_new=False)
        path = weights_path(spec.backbone, spec.weights)
        if path.resolve() != Path(self.network.path).resolve():
            state = read_state(path)
            return Built(OnnxModel(state["file"], state["counts"], spec.classes).eval(), head_is_new=False)
        self._require_file()
        file = read(self.network)
        if spec.channels != file.channels:
            raise PlanError(
                f"{spec.backbone} takes images with {file.channels} channels, and these have {spec.channels}"
            )
        model = file.model
        if self.network.classes and spec.class_names != own_class_names(self.network):
            model = with_classes(model, rows_of(self.network, spec.class_names))
        elif file.logits != spec.classes:
            raise WeightsError(
                f"{self.network.path} gives {file.logits} logits, and the data has {spec.classes} classes; name the "
                f"file with the names of its classes under 'classes'"
            )
        return Built(_model_of(model, self._shape(file.channels), spec.classes), head_is_new=False)

    def _shape(self, channels: int) -> tuple[int, ...]:
        return (1, channels, *self.network.resolution.sides)

    def _require_file(self) -> None:
        here = architecture_of(self.network)
        if self.network.architecture not in ("", here):
            raise NetworkError(
                f"{self.network.name}: {self.network.path} is another file here ({here[:12]}) than the study has "
                f"({self.network.architecture[:12]}); use one file everywhere, or give the new one another name"
            )

    def block_structure(self, model: nn.Module, spec: ModelSpec) -> BlockStructure:
        return BlockStructure(spec.backbone, spec.resolution, 0, 0, (), None, 0, "")

    def structure_digest(self, model: nn.Module) -> str:
        return ""

    def units(self, model: nn.Module) -> tuple[BlockUnits, ...]:
        return ()

    def slice_heads(self, model: nn.Module, block: int, kept: Sequence[int]) -> None:
        raise self._uncut()

    def slice_ffn(self, model: nn.Module, kept: Mapping[int, Sequence[int]], images: torch.Tensor) -> None:
        raise self._uncut()

    def slice_stream(self, model: nn.Module, kept: Sequence[int]) -> None:
        raise self._uncut()

    def _uncut(self) -> PlanError:
        return PlanError(f"{self.network.name} is an ONNX file, which is run as it is: it cannot be pruned")

    def stream_readers(self, model: nn.Module) -> tuple[Reader, ...]:
        return ()

    def deployable(self, model: nn.Module) -> nn.Module:
        return model


def read(network: OnnxNetwork) -> OnnxFile:
    """Read the file of a network, once in a process until it changes.

    Args:
        network: The network.

    Returns:
        Its file, in the form of vitsearch's own.

    Raises:
        NetworkError: It cannot be searched.
    """
    path = Path(network.path)
    return _read(replace(network, architecture="", opset=0), path.stat().st_mtime_ns if path.is_file() else 0)


@cache
def _read(network: OnnxNetwork, changed_ns: int) -> OnnxFile:
    return read_onnx(network)


def architecture_of(network: OnnxNetwork) -> str:
    """The digest of a file and of how it is read.

    Args:
        network: The network.

    Returns:
        SHA-256 in hexadecimal. Weights enter: a file with others is another one.
    """
    labels = names_of(network) if network.classes else []
    described = {"schema": SCHEMA, "file": file_digest(network.path), "layout": network.layout, "classes": labels}
    return digest(described)


def names_of(network: OnnxNetwork) -> list[str]:
    """Read the names of the classes of a network.

    Args:
        network: With a file of names.

    Returns:
        A name for each logit.

    Raises:
        NetworkError: There is no such file, or it is no text.
    """
    path = Path(network.classes)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NetworkError(f"{network.name}: {path} cannot be read as a list of classes: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def own_class_names(network: OnnxNetwork) -> tuple[str, ...]:
    """Name the classes of a network where the data names none.

    Args:
        network: The network.

    Returns:
        The names of its list, or numbers. A name that is listed several times has the number of its logit beside it.

    Raises:
        NetworkError: The file, or its list of classes, cannot be read.
    """
    if not network.classes:
        return tuple(map(str, range(read(network).logits)))
    listed = names_of(network)
    counts = Counter(listed)
    return tuple(name if counts[name] == 1 else f"{name} ({index})" for index, name in enumerate(listed))


def rows_of(network: OnnxNetwork, class_names: Sequence[str]) -> list[int]:
    """Find the logits of the classes of the data.

    Args:
        network: With a file of names.
        class_names: Of the data.

    Returns:
        For each of them, the index of its logit.

    Raises:
        WeightsError: The network does not know a class, or two of its logits have its name.
    """
    listed = names_of(network)
    counts = Counter(listed)
    missing = [name for name in class_names if not counts[name]]
    double = [name for name in class_names if counts[name] > 1]
    if missing:
        raise WeightsError(
            f"{network.classes} does not list {some(missing)}, which the data has; it has {some(listed)}"
        )
    if double:
        raise WeightsError(f"{network.classes} lists {some(double)} more than once, so the logit is not known")
    return [listed.index(name) for name in class_names]


def facts_of(network: OnnxNetwork, refusals: Mapping[str, str]) -> NetworkFacts:
    """Describe a file to the driver.

    Args:
        network: The file.
        refusals: What its family does not support.

    Returns:
        What the driver keeps.

    Raises:
        NetworkError: It cannot be searched.
    """
    file = read(network)
    if network.classes and (count := len(names_of(network))) != file.logits:
        raise NetworkError(
            f"{network.name}: {network.classes} lists {count} classes, and {network.path} gives {file.logits} logits"
        )
    runs = "one image in a run" if fixed_batch(file.model) else "any number of images in a run"
    kind = _reduced(file.model)
    levels = (runs, *([f"{kind} already"] if kind else []), "it is run as it is, so nothing is pruned or trained")
    return NetworkFacts(
        architecture_of(network),
        network.resolution,
        (file.channels,),
        file.logits,
        (network.resolution,),
        refusals,
        levels,
        opset=opset_of(file.model),
    )


def _model_of(model: onnx.ModelProto, shape: tuple[int, ...], classes: int) -> nn.Module:
    content = np.frombuffer(model.SerializeToString(), np.uint8).copy()
    width = int(model.graph.output[0].type.tensor_type.shape.dim[1].dim_value)
    counts = torch.tensor([_macs(model, shape), *_parameters(model.graph)], dtype=torch.int64)
    return OnnxModel(torch.from_numpy(content), counts, classes or width).eval()


def _macs(model: onnx.ModelProto, shape: tuple[int, ...]) -> int:
    """Of one image of `shape`."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    image = sized.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(image, shape, strict=True):
        dim.dim_value = size
    operators = nodes(sized, onnx_macs.COUNTED, 1)
    return sum(sum(map(onnx_macs.of_node, operators), Counter()).values())


def _parameters(graph: onnx.GraphProto) -> tuple[int, int]:
    """The parameters of a graph, and those of linear layers among them; single numbers are none."""
    tensors = constants(graph)  # with an entry for each of several parameters that are equal and stored once
    for node in graph.node:
        if node.op_type == "Constant":
            tensors.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
    sizes = [int(np.prod(tensor.dims)) for tensor in tensors.values() if tensor.data_type in NUMBERS]
    return sum(size for size in sizes if size > 1), sum(layer.weight.size for layer in linears(graph))


def _reduced(model: onnx.ModelProto) -> str | None:
    """The word for a file that holds other numbers than float32."""
    if is_quantized(model):
        return "quantized"
    is_half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return "stored in half precision" if is_half else None
