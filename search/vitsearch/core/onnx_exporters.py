"""Which of torch's two ONNX exporters writes the files of an architecture.

    torchscript   traces one run; several times faster, and writes what old runtimes read
    dynamo        captures the program; for the architectures of which the first one cannot write the operators

The table is read wherever a plan is resolved, so nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class OnnxExporter:
    """An exporter by its `name`, with the ONNX opset of its files and the oldest one in which it can write them."""

    name: str
    opset: int
    oldest_opset: int


TORCHSCRIPT, DYNAMO = OnnxExporter("torchscript", 17, 13), OnnxExporter("dynamo", 18, 18)
"""LayerNorm is one operator since opset 17; before, torch's exporter writes its parts."""

OLDEST_CONVERTED = 13
"""Opset to which the files of a user are converted for old devices, where that is possible."""

NEEDS_DYNAMO = {
    "bat_*": "it pools maps whose size the exporter does not know (aten::adaptive_max_pool2d)",
    "*halo*": "it unfolds windows of a map whose size the exporter does not know (aten::unfold)",
    "csatv2*": "it pools maps to 7 x 7 whose size is not a multiple of 7 (aten::adaptive_avg_pool2d)",
    "hiera_*_abswin_*": "it resizes its position table with antialiasing (aten::_upsample_bicubic2d_aa)",
    "naflexvit_*": "it resizes its position table with antialiasing (aten::_upsample_bicubic2d_aa)",
    "pvt_v2_b2_li": "it pools maps to 7 x 7 whose size is not a multiple of 7 (aten::adaptive_avg_pool2d)",
    "vgg*": "it pools maps to 7 x 7 whose size is not a multiple of 7 (aten::adaptive_avg_pool2d)",
    "volo_*": "it folds windows into a map (aten::col2im), which ONNX has since opset 18",
}
"""Names of architectures -> what the exporter `torchscript` cannot write of them, as it said itself (timm 1.0.31, torch
2.13, the smallest variant of each at 64 pixels, of HaloNet and BAT at their own, 2026-11-30). `dynamo` wrote each with
an open batch, within 2e-6 of the largest logit."""


def of_file(opset: int) -> OnnxExporter:
    """What stands for an exporter where the model is an ONNX file.

    Args:
        opset: That of the file.

    Returns:
        An exporter of this opset.
    """
    return OnnxExporter("file", opset, OLDEST_CONVERTED)


def needs_dynamo(backbone: str) -> str | None:
    """Say why a backbone's architecture is not written by the exporter `torchscript`.

    Args:
        backbone: Its name, perhaps with a tag behind the first dot, such as `volo_d1_224.sail_in1k`.

    Returns:
        The reason, which starts with "its" or "it"; None if that exporter writes it.
    """
    architecture = backbone.partition(".")[0]
    return next((reason for pattern, reason in NEEDS_DYNAMO.items() if fnmatchcase(architecture, pattern)), None)


def exporter_of(backbone: str) -> OnnxExporter:
    """The exporter that writes the files of a backbone, at every size and for every device.

    Args:
        backbone: Its name, perhaps with a tag behind the first dot.

    Returns:
        `DYNAMO` for the architectures of `NEEDS_DYNAMO`, else `TORCHSCRIPT`.
    """
    return TORCHSCRIPT if needs_dynamo(backbone) is None else DYNAMO
