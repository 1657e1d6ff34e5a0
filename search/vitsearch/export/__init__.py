"""From a torch model to a file that a runtime loads. A new runtime is one file and one line here."""

from __future__ import annotations

from typing import Any

from vitsearch.registry import Registry

EXPORTERS: Registry[Any] = Registry(
    "exporter", {"onnxruntime": "vitsearch.export.onnx_file:OnnxExporter"}, group="vitsearch.exporters"
)
