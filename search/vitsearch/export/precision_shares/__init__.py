"""The share of a file's multiply-adds (MACs) that its runtime computes in each precision.

A precision names what was asked for. What runs can differ much: "int8" of a model of convolutions may leave 99 % of
its MACs in fp32. The shares are read from the graph that the runtime itself has optimized, where it shows one, and
from the file where it does not.

    onnx_nodes.py     the operators of an ONNX graph, with the shapes that they have in a run
    onnx_macs.py      their MACs
    onnxruntime.py    the graph that onnxruntime has optimized
    openvino.py       the kernels that OpenVINO runs
    tflite.py         the operators of a TFLite file
    executorch.py     the products of an ExecuTorch program, delegated or not
    typed_onnx.py     the types of an ONNX file that is compiled on the device
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from vitsearch.core.plan import Deployment
from vitsearch.export.base import ExportedFile
from vitsearch.export.evaluate import OpenFile

CPU = "cpu"


def by_precision(file: ExportedFile, deployment: Deployment, opened: OpenFile | None = None) -> dict[str, float]:
    """Give the share of each precision.

    Args:
        file: What was written.
        deployment: Where and how it runs.
        opened: The file as its runtime has loaded it here, if it has.

    Returns:
        Precision ("fp32", "fp16", "bf16", "int8") -> its share of the MACs, largest first. Empty where the processor of
        the deployment is not in this machine, and where the runtime shows nothing.
    """
    counts = macs(file, deployment, opened)
    total = sum(counts.values())
    shares = Counter({name: count / total for name, count in counts.items() if count} if total else {})
    return dict(shares.most_common())


def macs(file: ExportedFile, deployment: Deployment, opened: OpenFile | None = None) -> Mapping[str, int]:
    """Precision -> MACs of one run of the file; empty where they are unknown. The arguments are as above."""
    configured = deployment.with_options(file.options)
    if deployment.runtime == "onnxruntime":
        from vitsearch.export.precision_shares import onnxruntime

        return onnxruntime.macs(file.path, configured)
    if deployment.runtime == "openvino" and deployment.provider == CPU:
        from vitsearch.export.precision_shares import openvino

        return openvino.macs(file.path, configured, opened)
    if deployment.runtime == "litert" and deployment.provider == CPU:
        from vitsearch.export.precision_shares import tflite

        return tflite.macs(file.path)
    if deployment.runtime == "executorch":
        from vitsearch.export.precision_shares import executorch

        return executorch.macs(file.path)
    if deployment.runtime == "tensorrt":
        from vitsearch.export.precision_shares import typed_onnx

        return typed_onnx.macs(file.path, configured)
    return {}
