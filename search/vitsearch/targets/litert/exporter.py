"""TFLite files for LiteRT, by litert-torch and ai-edge-quantizer.

Both run in an environment of their own (`.converters`), because litert-torch pins pydantic and typing-extensions:

    here                                        there (litert_convert.py)
    model --torch.export--> program.pt2   --->  fp32.tflite        kept for the other precisions
    calibration images      images.npy    --->  model.tflite       one for each precision

The images keep the layout (batch, channels, height, width), and the batch is fixed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vitsearch.core.precisions import LINEAR
from vitsearch.errors import StageError
from vitsearch.export import converters
from vitsearch.export.base import ExportedFile, Exporter, ExportTask
from vitsearch.models.onnx_format import OUTPUT
from vitsearch.targets.litert.conversion_cache import cached, program_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

NAME = "litert"
SCRIPT = Path(__file__).with_name("litert_convert.py")


class LiteRtExporter(Exporter):
    """See `vitsearch.export.base.Exporter`."""

    runtime = NAME
    packages = ("ai_edge_litert",)

    def missing(self) -> str | None:
        reasons = super().missing(), converters.converter_missing(NAME)
        return "; ".join(filter(None, reasons)) or None

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        """Also `StageError` `export` `missing` when the converter is not installed."""
        if reason := converters.converter_missing(NAME):
            raise StageError("export", "missing", reason)
        python, precision = converters.python_of(NAME), task.deployment.precision
        program, plain, final = folder / "program.pt2", folder / "fp32.tflite", folder / "model.tflite"
        _save_program(model, task.shape, program, task.output)
        # in the converter's folder: an environment of other versions is a new folder with an empty cache
        kept = converters.folder_of(NAME) / "converted"
        cached(kept, program_digest(program), plain, lambda: _convert(python, program, plain))
        if precision == "fp32":
            plain.replace(final)
        else:
            _quantize(python, plain, final, _way(task), task.images)
        return ExportedFile(final)


def verify(python: Path) -> None:
    """Convert and quantize a small model; `StageError` when that fails."""
    import numpy as np
    from torch import nn

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    images = np.ones((2, 1, 4, 4), np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save_program(model, (1, 1, 4, 4), folder / "program.pt2", OUTPUT)
        _convert(python, folder / "program.pt2", folder / "fp32.tflite")
        _quantize(python, folder / "fp32.tflite", folder / "model.tflite", "int8_ptq", images)


def _convert(python: Path, program: Path, plain: Path) -> None:
    converters.call(python, SCRIPT, ["convert", program, plain])
    _require(plain)


def _way(task: ExportTask) -> str:
    """The precision as the script knows it."""
    precision = task.deployment.precision
    return f"{precision}_linear" if precision == "int8_ptq" and task.quantized_ops == LINEAR else precision


def _quantize(python: Path, plain: Path, final: Path, way: str, images: NDArray[np.float32]) -> None:
    import numpy as np

    images_file = final.with_name("images.npy")
    np.save(images_file, images)
    converters.call(python, SCRIPT, ["quantize", plain, final, way, images_file])
    _require(final)


def _require(path: Path) -> None:
    if not path.is_file():
        raise StageError("export", "crash", f"{SCRIPT.stem} ended well but wrote no file {path.name}")


def _save_program(model: nn.Module, shape: tuple[int, ...], path: Path, output: str) -> None:
    """The program of `model` for images of `shape`, with the names of our files."""
    import torch

    from vitsearch.models.onnx_format import INPUT

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {output: self.model(images)}

    was_training = model.training
    try:
        with torch.no_grad():
            program = torch.export.export(Named().eval(), (), {INPUT: torch.zeros(shape)})
        torch.export.save(program, path)
    except (RuntimeError, TypeError, ValueError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StageError("export", "crash", f"torch.export: {said[0]}") from error
    finally:
        model.train(was_training)
