"""Export of a model to the file that a runtime loads, and inference with that file.

    base.py        Exporter (the protocol), ExportReport
    onnx_file.py   ONNX, checked in onnxruntime
    symbolics.py   ONNX nodes for operators that torch's exporter cannot convert
    deploy.py      the merged form of a model that ships
    evaluate.py    logits of an exported file, in its runtime

Importing this package imports neither torch nor onnx. Other packages add exporters through the entry-point group
``vitsearch.exporters`` (``runtime = "module:Class"``).
"""

from __future__ import annotations

from vitsearch.export.base import Exporter, ExportReport
from vitsearch.registry import Registry

__all__ = ["EXPORTERS", "ExportReport", "Exporter"]

EXPORTERS: Registry[type[Exporter]] = Registry(
    "exporter", {"onnxruntime": "vitsearch.export.onnx_file:OnnxExporter"}, "vitsearch.exporters"
)
