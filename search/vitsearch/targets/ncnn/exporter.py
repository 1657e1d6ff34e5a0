"""ncnn files by pnnx, which converts a trace of torch.

    fp32   as it is
    fp16   weights of 16 bits; the runtime computes in fp16 where the processor does

ncnn has four dimensions and none of images: a file takes one image, and a run of a batch is one pass for each. pnnx
returns 0 for what it could not convert and ncnn then refuses the file, so each file is loaded here. Swin, LeViT and
TinyViT have operators of five dimensions or slices with a step, which ncnn lacks; so have plans that drop tokens.
"""

from __future__ import annotations

import contextlib
import importlib
import platform
import re
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.export.base import ExportedFile, Exporter, ExportTask
from vitsearch.export.bundle_example import BundleExample, MeasuredModel, PythonExample, pinned, threads
from vitsearch.export.evaluate import OpenFile
from vitsearch.export.metadata import behind
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.ncnn import FP16, INPUT, OUTPUT, PRECISION_OPTIONS, NcnnRuntime

if TYPE_CHECKING:
    from torch import nn

TIMEOUT_S = 1800.0
_REFUSED = re.compile(r"ignore|unsupported|not supported|exceeds|failed|error", re.IGNORECASE)
"""Words of the lines in which pnnx says what it could not convert."""


class NcnnExporter(Exporter):
    """See `vitsearch.export.base.Exporter`."""

    runtime = "ncnn"
    packages = ("ncnn", "pnnx")

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        from vitsearch.compress.quantization import fake_quant

        _, *sizes = task.shape
        final = folder / "model.param"
        with tempfile.TemporaryDirectory() as name:
            traced = Path(name, "model.pt")
            with fake_quant.unrounded(model):
                _trace(model, (1, *sizes), traced)
            said = _convert(traced, (1, *sizes), task.deployment.precision == FP16)
            text, weights = traced.with_suffix(".ncnn.param"), traced.with_suffix(".ncnn.bin")
            if not text.exists() or not weights.exists():
                raise StageError("export", "crash", f"pnnx wrote no file: {said}")
            channels, height, width = sizes
            named = f"0 1 {INPUT}\n"
            final.write_text(text.read_text().replace(named, f"{named[:-1]} 0={width} 1={height} 2={channels}\n", 1))
            final.with_suffix(".bin").write_bytes(weights.read_bytes())
        try:
            NcnnRuntime().load(str(final), {"precision": task.deployment.precision}, 1, 1, {})
        except MeasurementFailed as error:
            raise StageError("export", "crash", f"pnnx: {said}; {error}") from error
        return ExportedFile(final)


def _trace(model: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write a trace of a model whose attention has tensors of four dimensions at most."""
    import torch

    from vitsearch.export.graph.module_rewrites import export_forms
    from vitsearch.models.surgery import unfused_attention

    was_training = model.training
    try:
        with unfused_attention(model), export_forms(model), _flat_attention(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its age, and of the sizes that it makes constant
            with torch.no_grad():
                trace: Any = torch.jit.trace  # without types
                trace(model.eval(), torch.zeros(shape), check_trace=False).save(str(path))
    except (RuntimeError, ValueError, TypeError) as error:
        raise StageError("export", "crash", f"torch.jit.trace: {str(error).strip().splitlines()[0]}") from error
    finally:
        model.train(was_training)


@contextlib.contextmanager
def _flat_attention(model: nn.Module) -> Iterator[None]:
    """Compute timm's attention of plain ViTs without its tensor of queries, keys and values, of five dimensions."""
    from timm.layers.attention import Attention

    changed = [module for module in model.modules() if type(module) is Attention and module.gate is None]
    for module in changed:
        module.forward = MethodType(_attention, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _attention(attention: Any, x: Any, attn_mask: None = None, is_causal: bool = False) -> Any:
    images, tokens, _ = x.shape
    heads, dim = attention.num_heads, attention.head_dim
    q, k, v = (part.reshape(images, tokens, heads, dim).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1))
    q, k = attention.q_norm(q), attention.k_norm(k)
    weights = ((q * attention.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
    return attention.proj(attention.norm((weights @ v).transpose(1, 2).reshape(images, tokens, heads * dim)))


def _convert(traced: Path, shape: tuple[int, ...], is_half: bool) -> str:
    """Call pnnx; returns the first line in which it says what it could not convert, or its last one."""
    tool = importlib.import_module("pnnx").EXEC_PATH
    command = [tool, traced.name, f"inputshape=[{','.join(map(str, shape))}]", f"fp16={int(is_half)}"]
    try:
        done = subprocess.run(
            command, cwd=traced.parent, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise StageError("export", "timeout", f"pnnx has not finished after {TIMEOUT_S:g} s") from error
    except OSError as error:
        raise StageError("export", "crash", f"pnnx cannot be started: {error}") from error
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return next((line for line in lines if _REFUSED.search(line)), lines[-1] if lines else "it said nothing")


def write_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Append a zip to the weights, of which ncnn reads as much as the layers have."""
    behind(path.with_suffix(".bin"), metadata)


def macs(path: Path, deployment: Deployment, opened: OpenFile | None = None) -> Mapping[str, int]:
    """All of a file is in one precision: fp32 on x86, which has no arithmetic of ncnn in fp16. Empty where this machine
    says nothing of that of the device."""
    if deployment.precision != FP16:
        return {deployment.precision: 1}
    return {"fp32": 1} if platform.machine() in ("x86_64", "AMD64") else {}


class NcnnExample(BundleExample):
    """See `vitsearch.export.bundle_example.BundleExample`."""

    def python(self, model: MeasuredModel) -> PythonExample:
        is_half = model.job.options["precision"] == FP16
        settings = "".join(f"NET.opt.{name} = {is_half}\n" for name in PRECISION_OPTIONS)
        opened = (
            f"NET = ncnn.Net()\nNET.opt.num_threads = {threads(model)}\n{settings}"
            'if NET.load_param(os.path.join(HERE, "model.param")) or NET.load_model(os.path.join(HERE, "model.bin")):\n'
            '    sys.exit("ncnn does not read the model")\n\n\n'
            "def run(image):\n"
            "    extractor = NET.create_extractor()\n"
            f'    extractor.input("{INPUT}", ncnn.Mat(image).clone())\n'
            f'    return np.array(extractor.extract("{OUTPUT}")[1])'
        )
        return PythonExample("import ncnn", opened, "run(images[0])", (pinned("ncnn", model),))
