"""The protocol of exporters: what they are given, and the file that they write."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from vitsearch.core import precisions
from vitsearch.core.onnx_exporters import TORCHSCRIPT, OnnxExporter
from vitsearch.core.plan import Deployment, Options
from vitsearch.models.onnx_format import OUTPUT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

PARITY_LIMIT = 1e-4
"""Allowed difference between an fp32 file and torch, of the largest logit."""


@dataclass(frozen=True, eq=False)
class ExportTask:
    """What a file is made for.

    Attributes:
        family: The backbone family of the model.
        deployment: Where and how the model runs.
        images: float32 (n, channels, height, width), normalised; they calibrate the file.
        opset: The ONNX opset of files that go through ONNX; None for that of `exporter`.
        fp32_layers: The names of linear layers that static int8 leaves in floats; LiteRT rounds them too.
        version: That of the runtime on the device, if it is known.
        exporter: The one of torch's exporters that writes the ONNX file of this architecture.
        output: The name of the output.
    """

    family: str
    deployment: Deployment
    images: NDArray[np.float32]
    opset: int | None = None
    fp32_layers: Sequence[str] = ()
    version: str | None = None
    exporter: OnnxExporter = TORCHSCRIPT
    output: str = OUTPUT

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one run of the model: the batch of the deployment (1 if it is open), channels, height, width."""
        return (self.deployment.batch or 1, *self.images.shape[1:])

    def calibration_batches(self) -> NDArray[np.float32]:
        """Divide the images into runs of the deployment.

        Returns:
            float32 (runs, batch, channels, height, width); the end of the last run has the first images again.
        """
        import numpy as np

        batch = self.shape[0]
        return np.resize(self.images, (-(-len(self.images) // batch), *self.shape))

    @property
    def quantized_ops(self) -> str:
        """The layers that int8 covers: those of the deployment, else the default of its runtime and precision."""
        deployment = self.deployment
        possible = precisions.quantized_ops_of(deployment.runtime, deployment.provider, deployment.precision)
        return deployment.quantized_ops or next(iter(possible), precisions.LINEAR)


@dataclass(frozen=True)
class ExportedFile:
    """A file that an exporter wrote.

    Attributes:
        path: The model file; the agent's `artifacts.model_files` names the files beside it that belong to it.
        judged: An ONNX file of the same arithmetic, whose accuracy in onnxruntime stands for that of a runtime that
            does not run on this machine; None when the runtime itself judges `path`.
        options: Those of the runtime that this file needs beside those of its deployment.
        rounds_more: The file rounds what the model in torch does not, so that its accuracy decides and not its
            difference to torch.
    """

    path: Path
    judged: Path | None = None
    options: Options = ()
    rounds_more: bool = False


class Exporter(Protocol):
    """Writes the file of a model for one runtime.

    Guarantees: the file takes float32 `images` (batch, channels, height, width) and gives float32 `logits` (batch,
    classes); its batch is that of the deployment. The model is not changed. Modules of exporters import neither torch
    nor the runtime at their top, so that `supports` can be asked anywhere.

    Attributes:
        runtime: The name of the runtime, under which the exporter is registered.
    """

    runtime: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Names under which this process imports what writes and judges the files; an extra has the runtime's name."""

    def supports(self, family: str, precision: str) -> str | None:
        """Say whether the runtime can run models of a family at a precision.

        Args:
            family: The name of a backbone family.
            precision: Such as `int8_ptq`.

        Returns:
            None if it can, else the reason, in one sentence.
        """
        return precisions.supports(self.runtime, precision)

    def missing(self) -> str | None:
        """Say what this machine lacks to write and judge files.

        Returns:
            What is missing, with the command that installs it; None if nothing is.
        """
        lacking = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if not lacking:
            return None
        return f"files for {self.runtime} need {' and '.join(lacking)}; run: pip install 'vitsearch[{self.runtime}]'"

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        """Write the file of a model.

        Args:
            model: In evaluation mode; takes (batch, channels, height, width), gives (batch, classes). Its layers may
                round (`vitsearch.compress.quantization.fake_quant`); the file then has their ranges.
            task: What the file is made for.
            folder: An existing folder for the file and those that belong to it.

        Returns:
            The file, and how it is judged.

        Raises:
            StageError: `export` when the model cannot be converted, with the tool's own last words.
        """
        ...
