"""Export of a model to the file that a runtime loads, and inference with that file: what the runtimes share. What is
of one of them is in its folder of `vitsearch.targets`.

    base.py               Exporter (the protocol), ExportTask, ExportedFile
    converters.py         tools in environments of their own
    graph/                the fp32 ONNX file from which most of them start, and what makes it smaller
    deploy.py             the merged form of a model that ships
    processor.py          what the processor of this machine has, where runtimes compute otherwise without it
    metadata.py           what a file says of itself
    structure.py          what the cost of a file depends on
    precision_shares/     how much of a file each precision computes
    bundle_example.py     how a model of a bundle is run without vitsearch
    evaluate.py           logits of an exported file, in its runtime
    device_jobs.py        what a deployment asks of an agent

Importing this package imports neither torch nor onnx.
"""

from __future__ import annotations

from vitsearch.core.targets import TARGETS
from vitsearch.export.base import ExportedFile, Exporter, ExportTask
from vitsearch.registry import Registry

__all__ = ["EXPORTERS", "ExportTask", "ExportedFile", "Exporter"]

EXPORTERS: Registry[type[Exporter]] = Registry(
    "exporter", {target.name: target.exporter for target in TARGETS.values()}
)
