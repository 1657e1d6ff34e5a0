"""Training for static int8: linear layers that compute as `.int8_static` writes them.

    x   uint8: one scale and zero point, from a range [low, high] that is learned
    W   int8: symmetric, one scale per output, from its largest value at each step
    y   the sum of products of integers, scaled, with the bias added

The layers are those that `int8_static` quantizes and their ranges start at the same values, so before the first
step the model equals the file of post-training quantization, and after training the exported graph differs only in
its numbers. Gradients pass rounding unchanged (straight-through, Jacob et al. 2018). The range is learned as in LSQ+
(Bhalgat et al. 2020), on a logarithmic scale, so that it can shrink past an outlier within a few dozen steps.

Why not a library, run on DeiT-tiny: the QDQ files of torch.ao's fake quantization, NVIDIA ModelOpt and NNCF were slower
than fp32 in onnxruntime (41-42 against 28 ms) unless one of its fusions was switched off on the device; torchao's file
takes 1.56 times as long as ours; Brevitas' was fast (14.3) but needs an undeclared package and an old setuptools, and
none of them accepts our layers and ranges (`docs/operators.md` has versions and figures).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from vitsearch.compress.quantization.int8_static import Learned, Range
from vitsearch.compress.quantization.layers import Floats
from vitsearch.errors import StageError

State = dict[str, torch.Tensor]
RANGE = "quantized_input_range"
STEPS_OF_INPUT, STEPS_OF_WEIGHT = 255, 127
RANGE_SPEED = 300.0
"""Factor on the learned stretch of a range: a step of AdamW at a learning rate of 1e-4 moves an end by about 3 %. Of
30, 100 and 300 this recovered most of the loss from an outlier in 32 steps."""


class QuantizedLinear(nn.Linear):
    """Replaces `layer` and shares its parameters; `seen` is the initial range of the input.

    Inputs are multiplied as integers, which bf16 and fp16 hold exactly up to 256; their scale is folded into the
    weights.
    """

    def __init__(self, layer: nn.Linear, seen: Range) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        ends = torch.tensor([min(seen[0], 0.0), max(seen[1], 0.0)], device=layer.weight.device)
        self.start: torch.Tensor
        self.register_buffer("start", ends)
        self.stretch = nn.Parameter(torch.zeros_like(ends))
        self.register_forward_pre_hook(_prevent_fused_inference)
        self.train(layer.training)

    def ends(self) -> torch.Tensor:
        """The low and the high end of the range, (2,), in units of the input."""
        return self.start * torch.exp(RANGE_SPEED * self.stretch)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The rounded layer of `inputs` (..., inputs): (..., outputs)."""
        low, high = _damped(self.ends(), (inputs.numel() * STEPS_OF_INPUT) ** -0.5)
        x_scale = _or_one((high - low) / STEPS_OF_INPUT)
        zero = _rounded(-low / x_scale)
        x_steps = cast(torch.Tensor, _Steps.apply(inputs, x_scale, zero))  # type: ignore[no-untyped-call]
        w_scale = _or_one(self.weight.detach().abs().amax(1, keepdim=True) / STEPS_OF_WEIGHT)
        weight = _rounded(self.weight / w_scale) * w_scale
        return functional.linear(x_steps, weight * x_scale, self.bias)


def _prevent_fused_inference(*_: object) -> None:
    """The fused inference of torch's encoder layers reads the weights of a layer without calling it, but not where it
    has a hook."""


class _Steps(torch.autograd.Function):
    """`clamp(round(x / scale) + zero, 0, 255) - zero`, in few passes over `x`.

    Inside the range the gradient is that without rounding; outside, the gradient of `x` is zero.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
        exact = x.float() / scale
        ctx.save_for_backward(exact, scale, zero)
        ctx.dtype = x.dtype
        device = x.device.type
        wanted = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        return exact.round().clamp_(-zero, STEPS_OF_INPUT - zero).to(wanted)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        exact, scale, zero = ctx.saved_tensors
        least, slope = -float(zero), slopes[0].float()
        kept = torch.ops.aten.hardtanh_backward(slope, exact, least - 0.5, least + STEPS_OF_INPUT + 0.5)
        of_scale = -torch.dot(kept.flatten(), exact.flatten()) / scale
        of_zero = kept.sum() - slope.sum()
        return kept.div_(scale).to(ctx.dtype), of_scale, of_zero


def prepare(model: nn.Module, batches: Iterable[torch.Tensor], left: Collection[str] = ()) -> None:
    """Replace each linear layer that runs on `batches` (N, C, H, W) by one that rounds, in place, but those called as
    `left` says.

    Ranges start at the lowest and highest input seen in evaluation mode. Layers whose input does not depend on the
    images, such as those that make a table of positions, stay: they are constants in the file. `StageError` when
    a range is not finite.
    """
    names = {
        module: name
        for name, module in model.named_modules()
        if type(module).forward is nn.Linear.forward and name not in left
    }
    seen: dict[nn.Module, Range] = {}

    def look(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        low, high = (float(end) for end in torch.aminmax(inputs[0]))
        before = seen.get(layer, (low, high))
        seen[layer] = min(low, before[0]), max(high, before[1])

    was_training = model.training
    handles = [module.register_forward_pre_hook(look) for module in names]
    with torch.inference_mode():
        model.eval()
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    constant = _constant_layers(model, batch)
    model.train(was_training)
    for layer in constant:
        seen.pop(layer, None)
    for layer, ends in seen.items():
        if not all(torch.isfinite(torch.tensor(ends))):
            wrong = f"the input of {names[layer]} has NaN or infinity on the calibration images"
            raise StageError("quantize", "not_finite", wrong)
        put(model, names[layer], QuantizedLinear(cast(nn.Linear, layer), ends))


@torch.inference_mode()
def _constant_layers(model: nn.Module, images: torch.Tensor) -> set[nn.Module]:
    """The linear layers of `model`, in evaluation mode, whose input is the same for other `images`."""
    inputs: dict[nn.Module, list[torch.Tensor]] = {}
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    handles = [
        layer.register_forward_pre_hook(lambda called, arguments: inputs.setdefault(called, []).append(arguments[0]))
        for layer in layers
    ]
    for image in (images[:1], 1.0 - images[:1]):
        model(image)
    for handle in handles:
        handle.remove()
    constant = set()
    for layer, seen in inputs.items():
        first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]  # of the one image and of the other
        if all(map(torch.equal, first, second)):
            constant.add(layer)
    return constant


def state_of(model: nn.Module) -> State:
    """The `state_dict` of the plain model, and the range of each quantized layer under `<layer>.<RANGE>`."""
    layers = dict(quantized(model))
    own = {f"{name}.{part}" for name in layers for part in ("start", "stretch")}
    plain = {name: value for name, value in model.state_dict().items() if name not in own}
    return plain | {f"{name}.{RANGE}": layer.ends().detach() for name, layer in layers.items()}


def load(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load into a plain `model`, in place, what `state_of` returned: weights, rounding layers, and ranges (2,)."""
    ranges = {name.removesuffix(f".{RANGE}"): value for name, value in state.items() if name.endswith(RANGE)}
    model.load_state_dict({name: value for name, value in state.items() if not name.endswith(RANGE)})
    for name, value in ranges.items():
        low, high = value.tolist()
        put(model, name, QuantizedLinear(cast(nn.Linear, model.get_submodule(name)), (low, high)))


def weights_of(model: nn.Module, names: Iterable[str]) -> tuple[Floats, ...]:
    """Weights (inputs, outputs) of those linear layers of `names` that `model` still has."""
    layers = dict(model.named_modules())
    linears = [layers[name] for name in names if isinstance(layers.get(name), nn.Linear)]
    return tuple(cast(nn.Linear, layer).weight.detach().cpu().numpy().T for layer in linears)


def learned(model: nn.Module) -> tuple[Learned, ...]:
    """Weights and range of each quantized layer, for the exporter."""
    layers = []
    for _, layer in quantized(model):
        low, high = layer.ends().tolist()
        layers.append(Learned(layer.weight.detach().cpu().numpy().T, (low, high)))
    return tuple(layers)


@contextmanager
def unrounded(model: nn.Module) -> Iterator[None]:
    """Put the plain linear layers back inside this context: the model that is exported."""
    layers = dict(quantized(model))
    for name, layer in layers.items():
        plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        plain.weight, plain.bias = layer.weight, layer.bias
        put(model, name, plain.train(layer.training))
    try:
        yield
    finally:
        for name, layer in layers.items():
            put(model, name, layer)


def quantized(model: nn.Module) -> list[tuple[str, QuantizedLinear]]:
    """All layers that round, with their names."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace the module `name` of `model` by `layer`."""
    above, _, last = name.rpartition(".")
    setattr(model.get_submodule(above), last, layer)


def _rounded(values: torch.Tensor) -> torch.Tensor:
    """Round to the nearest integer, ties to even; the gradient passes unchanged."""
    return values + (values.round() - values).detach()


def _damped(values: torch.Tensor, factor: float) -> torch.Tensor:
    """The values with their gradient times `factor`, because all elements of a tensor pull at its range at once."""
    return values * factor + (values * (1 - factor)).detach()


def _or_one(scale: torch.Tensor) -> torch.Tensor:
    return torch.where(scale > 0, scale, torch.ones_like(scale))
