"""Export of a model to the file that a runtime loads, and inference with that file.

    base.py               Exporter (the protocol), ExportTask, ExportedFile
    onnxruntime_file.py   onnxruntime: ONNX at every precision
    openvino_file.py      OpenVINO: a pair of IR files; int8 by NNCF
    litert_file.py        LiteRT: TFLite, by litert-torch in an environment of its own
    tensorrt_file.py      TensorRT: ONNX with its types, and Q/DQ for int8
    tensorrt_graph.py     which nodes of it stay in fp32, and which operators a version reads
    tensorrt_calibration.py  the scales that old versions take for int8
    coreml_file.py        Core ML: programs as pairs of files; coreml_weights.py and onnx_stand_in.py belong to it
    onnx_file.py          the fp32 ONNX file from which most of them start
    module_rewrites.py    modules as they are exported, in fewer nodes
    simplify.py           fewer nodes by standard operators: constant_folding.py, token_rows.py, onnx_rewrite.py
    onnxruntime_fusions.py  operators that only onnxruntime has
    symbolics.py          ONNX nodes for operators that torch's exporter cannot convert
    deploy.py             the merged form of a model that ships
    evaluate.py           logits of an exported file, in its runtime

Importing this package imports neither torch nor onnx. Other packages add exporters through the entry-point group
`vitsearch.exporters` (`runtime = "module:Class"`).
"""

from __future__ import annotations

from vitsearch.export.base import ExportedFile, Exporter, ExportTask
from vitsearch.registry import Registry

__all__ = ["EXPORTERS", "ExportTask", "ExportedFile", "Exporter"]

EXPORTERS: Registry[type[Exporter]] = Registry(
    "exporter",
    {
        "onnxruntime": "vitsearch.export.onnxruntime_file:OnnxRuntimeExporter",
        "openvino": "vitsearch.export.openvino_file:OpenVinoExporter",
        "litert": "vitsearch.export.litert.litert_file:LiteRtExporter",
        "tensorrt": "vitsearch.export.tensorrt.tensorrt_file:TensorRtExporter",
        "coreml": "vitsearch.export.coreml.coreml_file:CoreMlExporter",
    },
    "vitsearch.exporters",
)
