"""MACs of the graph that onnxruntime has optimized on this machine."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitsearch.core.plan import Deployment
from vitsearch.export.device_jobs import device_job
from vitsearch.export.evaluate import OpenFile
from vitsearch.export.precision_shares import onnx_macs
from vitsearch.export.precision_shares.onnx_nodes import nodes, settings
from vitsearch_agent import runtimes

FUSED_NOT_LAID_OUT = "ORT_ENABLE_EXTENDED"
"""One level below the one that runs. The last level changes the order of data in memory, which adds channels to
convolutions, and fuses their activations; it changes no precision, and its graph would be counted wrongly."""


def macs(path: Path, deployment: Deployment, opened: OpenFile | None = None) -> Mapping[str, int]:
    """Precision -> MACs of one run. Empty where this machine lacks the provider, or where the provider compiles the
    graph to one node of its own."""
    import onnx
    import onnxruntime

    job = device_job(deployment)
    if job.options["provider"] not in onnxruntime.get_available_providers():
        return {}
    options = runtimes.create(job.runtime).check_options(job.options)
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder, "optimized.onnx")
        try:
            _optimize(path, optimized, options)
            operators = nodes(onnx.load(optimized), onnx_macs.COUNTED, deployment.batch or 1)
        except Exception:  # noqa: BLE001 - its exceptions have no other common class; the file itself runs
            return {}
    return sum(map(onnx_macs.of_node, operators), Counter())


def _optimize(path: Path, optimized: Path, options: Mapping[str, Any]) -> None:
    """Write the graph that a session with the agent's options has, which includes casts to what it can compute."""
    import onnxruntime

    session_options = settings(FUSED_NOT_LAID_OUT)
    session_options.optimized_model_filepath = str(optimized)
    onnxruntime.InferenceSession(
        str(path), session_options, providers=[options["provider"]], disabled_optimizers=options["disabled_optimizers"]
    )
