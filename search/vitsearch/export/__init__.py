"""Export of a model to the file that a runtime loads, and inference with that file.

    base.py               Exporter (the protocol), ExportTask, ExportedFile
    onnxruntime_file.py   onnxruntime: ONNX at every precision
    openvino_file.py      OpenVINO: a pair of IR files; int8 by NNCF
    converters.py         tools in environments of their own
    qnn/                  files that are compiled for a chip of Qualcomm, from those for onnxruntime
    litert/               LiteRT: TFLite, by litert-torch in an environment of its own
    executorch/           ExecuTorch: programs with XNNPACK's delegate
    tensorrt/             TensorRT: ONNX with its types, and Q/DQ or scales for int8
    coreml/               Core ML: programs as pairs of files
    graph/                the fp32 ONNX file from which most of them start, and what makes it smaller
    deploy.py             the merged form of a model that ships
    processor.py          what the processor of this machine has, where runtimes compute otherwise without it
    metadata.py           what a file says of itself
    structure.py          what the cost of a file depends on
    precision_shares/     how much of a file each precision computes
    evaluate.py           logits of an exported file, in its runtime
    device_jobs.py        what a deployment asks of an agent

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
        "executorch": "vitsearch.export.executorch.executorch_file:ExecuTorchExporter",
        "tensorrt": "vitsearch.export.tensorrt.tensorrt_file:TensorRtExporter",
        "coreml": "vitsearch.export.coreml.coreml_file:CoreMlExporter",
    },
    "vitsearch.exporters",
)
