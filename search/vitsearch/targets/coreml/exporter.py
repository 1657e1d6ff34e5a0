"""Core ML programs (mlprogram) as pairs of files: the program and its weights.

    fp32                     as it is
    fp16                     weights and arithmetic; images and logits stay fp32
    int8_weights, palette4   fp16, with compressed weights (`vitsearch.targets.coreml.reduced_weights`)

coremltools converts the graph of `torch.export`; where that fails, the one of `torch.jit.trace`, which with numpy
2.4 and coremltools 9 fails itself for most models. Core ML predicts on macOS only. What is judged is an ONNX file of
the same weights and precision in onnxruntime (`vitsearch.targets.coreml.onnx_stand_in`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsearch.errors import StageError
from vitsearch.export.base import ExportedFile, Exporter, ExportTask
from vitsearch.export.metadata import PREFIX
from vitsearch.models.onnx_format import INPUT, OUTPUT
from vitsearch.targets.coreml import reduced_weights as coreml_weights

if TYPE_CHECKING:
    from torch import nn

INSTALL = "pip install 'vitsearch[coreml]'"
NO_WEIGHTS = (0).to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes(56)
"""Core ML's file of weights (version 2) when a program has none: a header of 64 bytes that counts no tensors."""


class CoreMlExporter(Exporter):
    """See `vitsearch.export.base.Exporter`."""

    runtime = "coreml"
    packages = ("coremltools",)

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        from vitsearch.compress.quantization import fake_quant
        from vitsearch.export.graph.onnx_file import convert
        from vitsearch.targets.coreml import onnx_stand_in

        final, plain, judged = folder / "model.mlmodel", folder / "fp32.onnx", folder / "judged.onnx"
        precision = task.deployment.precision
        with fake_quant.unrounded(model):
            convert(model, task.shape, plain, task.opset, task.deployment.batch, task.exporter, task.output)
            with quiet():
                program = program_of(model, task.shape, is_half=precision != "fp32")
        try:
            small = _compressed(program, precision)
            store(small.program, final)
            coreml_weights.forget(small.program)
        finally:
            coreml_weights.forget(program)
        onnx_stand_in.write(plain, judged, small.rounded, is_half=precision != "fp32")
        return ExportedFile(final, judged=judged)


def store(program: Any, path: Path) -> None:
    """Write a program to `path`, and its weights beside it with the suffix `.bin`: the same bytes every time."""
    spec = program.get_spec()
    spec.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    path.write_bytes(spec.SerializeToString(deterministic=True))
    weights = Path(program.weights_dir or "") / "weight.bin"
    if program.weights_dir and weights.exists():
        shutil.copyfile(weights, path.with_suffix(".bin"))
    else:
        path.with_suffix(".bin").write_bytes(NO_WEIGHTS)


def program_of(model: nn.Module, shape: tuple[int, ...], is_half: bool, output: str = OUTPUT) -> Any:
    """`model` as a program, by the first way that succeeds; `StageError` with the last words of both."""
    failures, was_training = [], model.training
    for name, graph_of in _WAYS.items():
        try:
            return _converted(graph_of(model.eval(), shape), shape, is_half, output)
        except Exception as error:  # noqa: BLE001 - torch and coremltools raise whatever their operators raise
            failures.append(f"{name}: {_in_one_line(error)}")
        finally:
            model.train(was_training)
    raise StageError("export", "crash", "coremltools: " + "; ".join(failures))


def _converted(graph: Any, shape: tuple[int, ...], is_half: bool, output: str) -> Any:
    import coremltools
    import numpy as np

    return coremltools.convert(
        graph,
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=coremltools.precision.FLOAT16 if is_half else coremltools.precision.FLOAT32,
        inputs=[coremltools.TensorType(name=INPUT, shape=shape, dtype=np.float32)],
        outputs=[coremltools.TensorType(name=output, dtype=np.float32)],
        skip_model_load=True,
    )


def _exported(model: nn.Module, shape: tuple[int, ...]) -> Any:
    """The graph of `torch.export`, without its aliases: coremltools 9 does not know that operator, which does
    nothing. (Swin has twelve of them.)"""
    import torch

    with torch.no_grad():
        program = torch.export.export(model, (torch.zeros(shape),)).run_decompositions({})
    for node in list(program.graph.nodes):
        if node.target in (torch.ops.aten.alias.default, torch.ops.aten.alias_copy.default):
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    return program


def _traced(model: nn.Module, shape: tuple[int, ...]) -> Any:
    import torch

    with torch.no_grad():
        return torch.jit.trace(model, torch.zeros(shape))  # type: ignore[no-untyped-call]


_WAYS: dict[str, Callable[[nn.Module, tuple[int, ...]], Any]] = {
    "torch.export": _exported,
    "torch.jit.trace": _traced,
}


def _compressed(program: Any, precision: str) -> coreml_weights.Compressed:
    if precision in ("fp32", "fp16"):
        return coreml_weights.Compressed(program)
    try:
        with quiet():
            return coreml_weights.compress(program, precision)
    except Exception as error:  # coremltools raises whatever its operators raise
        raise StageError("export", "crash", f"coremltools: {_in_one_line(error)}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Import coremltools, and keep its progress bars and its remarks about versions away from the user."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")  # from coremltools 9 and torch.export, about each other
        try:
            import coremltools  # noqa: F401
        except ImportError as error:
            raise StageError("export", "missing", f"coremltools cannot be imported ({error}): {INSTALL}") from error
        yield


def _in_one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} {lines[-1] if lines else ''}".strip()


def write_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Put metadata into the user-defined metadata of a model, in place."""
    with quiet():
        from coremltools.proto import Model_pb2
    spec = Model_pb2.Model()
    spec.ParseFromString(path.read_bytes())
    for name, text in metadata.items():
        spec.description.metadata.userDefined[f"{PREFIX}.{name}"] = text
    path.write_bytes(spec.SerializeToString(deterministic=True))
