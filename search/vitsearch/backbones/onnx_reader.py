"""ONNX files that other tools wrote: checked, and brought into the form of vitsearch's own.

    input      float32 `images` (batch, channels, height, width): a Transpose is put in front of (batch, height, width,
               channels)
    output     float32 `logits` (batch, classes): a Softmax at the end is left out
    batch      open, where the same images then have the same logits one by one and together; else 1
    opset      at least that of our own files

Each check raises one `NetworkError`, which names the file and says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter

from vitsearch.backbones.weights_file import some
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import OnnxNetwork
from vitsearch.errors import NetworkError, first_line
from vitsearch.export.base import PARITY_LIMIT
from vitsearch.export.graph.onnx_file import BATCH
from vitsearch.models.onnx_format import INPUT, MAX_BYTES, OPSET, OUTPUT
from vitsearch.models.onnx_model import fixed_batch, opset_of, session_of

if TYPE_CHECKING:
    Values = NDArray[np.float32]

STANDARD, ONNXRUNTIME = ("", "ai.onnx"), "com.microsoft"
"""Domains of operators: those that every runtime has, and onnxruntime's own."""
CHANNELS = (1, 3)
TOGETHER = 3
"""Images that are run one by one and at once, to see whether the batch can be open."""
MOST_IMAGES = 1024
"""In a run of a file that fixes their number."""
SEED = 0
AXES = {"nchw": "(batch, channels, height, width)", "nhwc": "(batch, height, width, channels)"}
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
SOFTMAXES = ("Softmax", "LogSoftmax")


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A file in the form of vitsearch's own.

    Attributes:
        model: Its graph.
        channels: Of its images.
        logits: Their number.
        is_sized: It takes images of one size only.
    """

    model: onnx.ModelProto
    channels: int
    logits: int
    is_sized: bool


def read_onnx(network: OnnxNetwork) -> OnnxFile:
    """Read the file of a network.

    Args:
        network: The network.

    Returns:
        What it holds, with the input and the output of vitsearch's own files.

    Raises:
        NetworkError: It cannot be searched.
    """
    model = _loaded(network)
    model = _inlined(network, model)
    _refuse_files_beside(network, model)
    _refuse_domains(network, model)
    source = _input_of(network, model)
    sizes = _sizes(network, source)
    model = _renewed(network, model)
    channels = sizes[3] if network.layout == "nhwc" else sizes[1]
    shape = (sizes[0] or 1, channels, *network.resolution.sides)
    images = np.random.default_rng(SEED).standard_normal((max(TOGETHER, shape[0]), *shape[1:])).astype(np.float32)
    expected = _logits(network, model, images[: shape[0]])
    _without_softmax(model)
    _rename(model, {source.name: INPUT, model.graph.output[0].name: OUTPUT})
    if network.layout == "nhwc":
        _transpose_input(model)
    height, width = (sizes[1], sizes[2]) if network.layout == "nhwc" else (sizes[2], sizes[3])
    _set_ends(model, (0, channels, height, width), expected.shape[1])
    model = _with_batch(network, model, images, shape[0])
    return OnnxFile(model, channels, expected.shape[1], bool(height and width))


def _problem(network: OnnxNetwork, text: str) -> NetworkError:
    return NetworkError(f"{network.name}: {network.path} {text}")


# ---- what a file must be


def _loaded(network: OnnxNetwork) -> onnx.ModelProto:
    path = Path(network.path)
    if not path.is_file():
        raise NetworkError(f"{network.name}: there is no file {path}")
    if (size := path.stat().st_size) >= MAX_BYTES:
        raise _problem(network, f"takes {size / 1e9:.1f} GB, and an ONNX file at most 2.1 GB")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # onnx and onnxruntime raise errors of their own kinds
        raise _problem(network, "is not an ONNX file") from error
    if not model.graph.node:
        raise _problem(network, "is not an ONNX file: it has no graph")
    return model


def _refuse_files_beside(network: OnnxNetwork, model: onnx.ModelProto) -> None:
    beside = sorted({location for tensor in _tensors(model.graph) for location in _locations(tensor)})
    if beside:
        raise _problem(
            network,
            f"keeps its weights in other files ({some(beside)}): write it as one file, with "
            "torch.onnx.export(..., external_data=False) or onnx.save(onnx.load(PATH), NEW_PATH)",
        )


def _locations(tensor: onnx.TensorProto) -> Iterator[str]:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        yield next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(inner)


def _inlined(network: OnnxNetwork, model: onnx.ModelProto) -> onnx.ModelProto:
    """The functions of a file, which torch's exporter may write, as their operators."""
    if not model.functions:
        return model
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except MemoryError:
        raise
    except Exception as error:  # onnx and onnxruntime raise errors of their own kinds
        raise _problem(network, f"has functions that cannot be inlined: {first_line(error)}") from error


def _refuse_domains(network: OnnxNetwork, model: onnx.ModelProto) -> None:
    own = sorted(
        {f"{node.domain}.{node.op_type}" for node in _nodes(model.graph) if node.domain not in (*STANDARD, ONNXRUNTIME)}
    )
    if own:
        raise _problem(network, f"uses operators that the runtimes do not have: {some(own)}")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in _inner(node):
            yield from _nodes(inner)


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _input_of(network: OnnxNetwork, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The one input of a file that has one output."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    outputs = list(model.graph.output)
    for what, values, needed in (("inputs", inputs, "images"), ("outputs", outputs, "logits")):
        if len(values) != 1:
            names = some([value.name for value in values]) if values else "none"
            raise _problem(network, f"has {len(values)} {what} ({names}), and vitsearch needs one: {needed}")
        kind = values[0].type.tensor_type.elem_type
        if kind != onnx.TensorProto.FLOAT:
            name = onnx.TensorProto.DataType.Name(kind).lower()
            does = "takes images as" if what == "inputs" else "gives logits as"
            raise _problem(network, f"{does} {name}, and the agent measures with float (float32)")
    return inputs[0]


def _sizes(network: OnnxNetwork, source: onnx.ValueInfoProto) -> list[int]:
    """The sizes of the input, as the file has them; 0 for those that are open."""
    sizes = [int(size.dim_value) for size in source.type.tensor_type.shape.dim]
    shown = "(" + ", ".join(str(size or "?") for size in sizes) + ")"
    if len(sizes) != 4:
        raise _problem(network, f"takes {shown}, and images are {AXES[network.layout]}")
    channel, sides = (3, (1, 2)) if network.layout == "nhwc" else (1, (2, 3))
    if sizes[channel] not in CHANNELS:
        other = "nchw" if network.layout == "nhwc" else "nhwc"
        is_other = sizes[1 if channel == 3 else 3] in CHANNELS
        hint = f"; its images look like {AXES[other]}: layout: {other}" if is_other else ""
        raise _problem(network, f"takes {shown}, which is not {AXES[network.layout]} of 1 or 3 channels{hint}")
    if not 0 <= sizes[0] <= MOST_IMAGES:
        raise _problem(
            network, f"takes {shown}: {sizes[0]} images in a run; allowed: 1 to {MOST_IMAGES}, or any number"
        )
    own = [sizes[side] for side in sides]
    if any(side not in (0, wanted) for side, wanted in zip(own, network.resolution.sides, strict=True)):
        wanted = f"; write resolution: {ImageSize(*own).to_json()}" if all(own) else ""
        wrong = (
            f"takes {shown}, not images of {network.resolution.by} pixels; 'resolution' must be the size that it has"
        )
        raise _problem(network, f"{wrong}{wanted}")
    return sizes


def _renewed(network: OnnxNetwork, model: onnx.ModelProto) -> onnx.ModelProto:
    """With operators of at least our own opset, and the oldest format that has them."""
    if opset_of(model) < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # onnx and onnxruntime raise errors of their own kinds
            wanted = f"it cannot be converted to opset {OPSET} ({first_line(error)}); export it with that"
            raise _problem(network, f"has opset {opset_of(model)}: {wanted}") from error
    names = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in (*STANDARD, *names)]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    standard = [entry for entry in kept if entry.domain in STANDARD]
    try:
        model.ir_version = helper.find_min_ir_version_for(standard)
    except ValueError as error:
        newest = onnx.defs.onnx_opset_version()
        raise _problem(network, f"has opset {opset_of(model)}, and the installed onnx reads up to {newest}") from error
    return model


def _logits(network: OnnxNetwork, model: onnx.ModelProto, images: Values) -> Values:
    """What the file as it is gives for as many images as it takes."""
    pixels = images if network.layout == "nchw" else images.transpose(TO_NHWC)
    try:
        session = session_of(model)
        (logits,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(pixels)})
    except Exception as error:  # onnx and onnxruntime raise errors of their own kinds
        raise _problem(network, f"does not run in onnxruntime: {first_line(error)}") from error
    if logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < 2:
        given = f"gives {tuple(logits.shape)} for images {tuple(pixels.shape)}"
        raise _problem(network, f"{given}, not one logit for each class: (batch, classes)")
    if not np.isfinite(logits).all():
        raise _problem(network, "gives NaN or infinity for random images")
    return np.asarray(logits, np.float32)


# ---- the form of our files


def _without_softmax(model: onnx.ModelProto) -> None:
    """Let the output be what a Softmax at the end reads: it changes no answer."""
    output = model.graph.output[0].name
    last = next((node for node in model.graph.node if output in node.output), None)
    if last is None or last.op_type not in SOFTMAXES or last.domain not in STANDARD:
        return
    axis = next((attribute.i for attribute in last.attribute if attribute.name == "axis"), -1)
    before = last.input[0]
    made = any(before in node.output for node in model.graph.node)
    if axis in (1, -1) and made:
        model.graph.node.remove(last)
        model.graph.output[0].name = before


def _rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Rename tensors; those that have one of the new names get another."""
    taken = {name: f"{name}/own" for name in names.values() if name not in names}
    new = {old: name for old, name in (taken | dict(names)).items() if old != name}
    _rename_in(model.graph, new)


def _rename_in(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new.get(name, name)
        for inner in _inner(node):
            _rename_in(inner, new)


def _transpose_input(model: onnx.ModelProto) -> None:
    """Read (batch, channels, height, width) where the graph reads them in another order."""
    inner = f"{INPUT}/nhwc"
    _rename_in(model.graph, {INPUT: inner})
    node = helper.make_node("Transpose", [INPUT], [inner], f"{INPUT}/transpose", perm=list(TO_NHWC))
    model.graph.node.insert(0, node)


def _set_ends(model: onnx.ModelProto, sizes: tuple[int, ...], logits: int) -> None:
    """Write the shapes of input and output; a size of 0 is open."""
    names = (BATCH, "channels", "height", "width")
    shape = [size or name for size, name in zip(sizes, names, strict=True)]
    image = helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, shape)
    answer = helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [sizes[0] or BATCH, logits])
    graph = model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(image)
    graph.output.append(answer)


def _with_batch(network: OnnxNetwork, model: onnx.ModelProto, images: Values, own: int) -> onnx.ModelProto:
    """The file with an open batch if images then have the same logits together as one by one, else with a batch of 1.

    Exporters write the batch of their example into Reshape nodes; there it is opened too.
    """
    for opened in (model, _with_open_reshapes(model, own)):
        failure = _batch_problem(opened, images)
        if failure is None:
            return opened
    if own != 1:
        fixed = f"takes {own} images in a run, which its graph fixes ({failure})"
        raise _problem(network, f"{fixed}; export it with a batch of 1 or an open one")
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    if (failure := _batch_problem(model, images[:1])) is not None:
        raise _problem(network, f"does not run with its batch fixed to 1: {failure}")
    return model


def _batch_problem(model: onnx.ModelProto, images: Values) -> str | None:
    try:
        session = session_of(model)
        alone = [session.run(None, {INPUT: images[index : index + 1]})[0] for index in range(len(images))]
        together = session.run(None, {INPUT: images})[0]
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no other common class
        return first_line(error)
    separate = np.concatenate(alone)
    limit = PARITY_LIMIT * np.abs(separate).max()
    same = separate.shape == together.shape and np.abs(separate - together).max() <= limit
    return None if same else "the logits of an image depend on the others in the run"


def _with_open_reshapes(model: onnx.ModelProto, own: int) -> onnx.ModelProto:
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    targets = {tensor.name: tensor for tensor in opened.graph.initializer}
    for node in opened.graph.node:
        if node.op_type == "Constant":
            targets.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
    for index, node in enumerate(opened.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in targets:
            continue
        sizes = numpy_helper.to_array(targets[node.input[1]]).copy()
        if len(sizes) > 1 and sizes[0] == own and -1 not in sizes:
            sizes[0] = -1
            node.input[1] = f"{node.output[0]}/shape/{index}"
            opened.graph.initializer.append(numpy_helper.from_array(sizes, node.input[1]))
    return opened


def with_classes(model: onnx.ModelProto, rows: Iterable[int]) -> onnx.ModelProto:
    """Choose logits.

    Args:
        model: In the form of vitsearch's own files.
        rows: The indices of the logits that stay, in their new order.

    Returns:
        A copy that gives these.
    """
    chosen, index = onnx.ModelProto(), np.array(list(rows), np.int64)
    chosen.CopyFrom(model)
    _rename_in(chosen.graph, {OUTPUT: f"{OUTPUT}/all"})
    chosen.graph.initializer.append(numpy_helper.from_array(index, f"{OUTPUT}/classes"))
    inputs = [f"{OUTPUT}/all", f"{OUTPUT}/classes"]
    chosen.graph.node.append(helper.make_node("Gather", inputs, [OUTPUT], f"{OUTPUT}/gather", axis=1))
    batch = fixed_batch(model) or BATCH
    del chosen.graph.output[:]
    chosen.graph.output.append(helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [batch, len(index)]))
    return chosen
