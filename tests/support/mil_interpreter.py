"""Computes a Core ML program with torch, operator by operator, as MIL's definitions say.

Core ML itself predicts on macOS only. This shows on any system that the two files that were stored, weights included,
compute what the model computes. It knows the operators that our exporter writes for vision transformers, and no other.
"""

import numpy as np
import torch
from coremltools.converters.mil.frontend.milproto import load as milproto
from coremltools.proto import Model_pb2
from torch.nn import functional


def predict(path, images):
    """The logits of the pair of files (`path`, and the same with .bin) for `images`, as float32."""
    spec = Model_pb2.Model()
    spec.ParseFromString(path.read_bytes())
    program = milproto.load(spec, spec.specificationVersion, _weights_folder(path))
    (function,) = program.functions.values()
    (name,) = function.inputs
    values = {name: images}
    with torch.inference_mode():
        for operator in function.operations:
            results = _compute(operator, values)
            results = results if isinstance(results, (list, tuple)) else [results]
            values.update({output.name: value for output, value in zip(operator.outputs, results, strict=True)})
    (output,) = function.outputs
    return values[output.name].float()


def _weights_folder(path):
    """The folder that the program's `@model_path/weights/weight.bin` is in."""
    folder = path.parent / "weights"
    folder.mkdir(exist_ok=True)
    link = folder / "weight.bin"
    link.unlink(missing_ok=True)
    link.symlink_to(path.with_suffix(".bin").absolute())
    return str(folder)


def _compute(operator, values):
    if operator.op_type == "const":
        return _tensor(operator.outputs[0].val)
    if operator.op_type.startswith("constexpr_"):
        return _tensor(operator.materialized_val_inference())
    arguments = {}
    for name, value in operator.inputs.items():
        if isinstance(value, (list, tuple)):
            arguments[name] = [values.get(item.name) for item in value]
        elif value is not None:
            arguments[name] = values[value.name] if value.name in values else _tensor(value.val)
    return OPERATORS[operator.op_type](**arguments)


def _tensor(value):
    if value is None or isinstance(value, str):
        return value
    return torch.as_tensor(np.array(value))  # a copy; torch 2.8 takes no scalars of numpy


def _ints(value):
    return [int(number) for number in value.reshape(-1)]


def _linear(x, weight, bias=None):
    return functional.linear(x, weight, bias)


def _conv(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=None):
    assert pad_type in ("valid", "custom")
    if pad_type == "custom":
        top, bottom, left, right = _ints(pad)
        x = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(x, weight, bias, _ints(strides), 0, _ints(dilations), int(groups))


def _batch_norm(x, mean, variance, gamma=None, beta=None, epsilon=1e-5):
    return functional.batch_norm(x, mean, variance, gamma, beta, False, 0.0, float(epsilon))


def _matmul(x, y, transpose_x=False, transpose_y=False):
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def _layer_norm(x, axes, gamma=None, beta=None, epsilon=1e-5):
    assert _ints(axes) in ([-1], [x.ndim - 1])
    return functional.layer_norm(x, x.shape[-1:], gamma, beta, float(epsilon))


def _gelu(x, mode="EXACT"):
    assert mode == "EXACT"
    return functional.gelu(x)


def _slice(x, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    count = len(begin)
    steps = _ints(stride) if stride is not None else [1] * count
    masks = [[False] * count if mask is None else mask.tolist() for mask in (begin_mask, end_mask, squeeze_mask)]
    index = []
    for axis, (start, stop, step) in enumerate(zip(_ints(begin), _ints(end), steps, strict=True)):
        first, last = None if masks[0][axis] else start, None if masks[1][axis] else stop
        index.append(start if masks[2][axis] else slice(first, last, step))
    return x[tuple(index)]


def _pad(x, pad, mode="constant", constant_val=0.0):
    assert mode == "constant"
    sides = _ints(pad)
    pairs = [(sides[at], sides[at + 1]) for at in range(0, len(sides), 2)]
    return functional.pad(x, [size for pair in reversed(pairs) for size in pair], value=float(constant_val))


def _expand_dims(x, axes):
    for axis in sorted(_ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _gather(x, indices, axis=0, batch_dims=0, validate_indices=False):
    assert int(batch_dims) == 0
    before, axis = x.shape[: int(axis)], int(axis)
    return x.index_select(axis, indices.reshape(-1).int()).reshape(*before, *indices.shape, *x.shape[axis + 1 :])


OPERATORS = {
    "add": lambda x, y: x + y,
    "batch_norm": _batch_norm,
    "cast": lambda x, dtype: x.to({"fp16": torch.float16, "fp32": torch.float32, "int32": torch.int32}[dtype]),
    "concat": lambda values, axis, interleave: torch.cat(values, int(axis)),
    "conv": _conv,
    "expand_dims": _expand_dims,
    "gather": _gather,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "mul": lambda x, y: x * y,
    "pad": _pad,
    "real_div": lambda x, y: x / y,
    "reduce_mean": lambda x, axes, keep_dims: x.mean(_ints(axes), keepdim=bool(keep_dims)),
    "relu": lambda x: x.relu(),
    "reshape": lambda x, shape: x.reshape(_ints(shape)),
    "sigmoid_hard": lambda x, alpha, beta: (x * alpha + beta).clamp(0, 1),
    "silu": lambda x: functional.silu(x),
    "slice_by_index": _slice,
    "softmax": lambda x, axis: x.softmax(int(axis)),
    "split": lambda x, split_sizes, axis: x.split(_ints(split_sizes), int(axis)),
    "squeeze": lambda x, axes: x.squeeze(_ints(axes)),
    "thresholded_relu": lambda x, alpha: torch.where(x >= alpha, x, 0),
    "transpose": lambda x, perm: x.permute(_ints(perm)),
}
