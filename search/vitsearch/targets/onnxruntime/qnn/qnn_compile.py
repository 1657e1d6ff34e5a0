"""Compiles a model for a chip of Qualcomm, and runs what was compiled in the library's own emulation. This script runs
with the Python of the qnn converter's environment, not with ours: it must not import vitsearch. Of the agent it takes
the code that registers the provider; PACKAGES is the folder that has it.

    python qnn_compile.py compile PACKAGES MODEL CONTEXT SOC_MODEL HTP_ARCH REPORT
        ONNX file -> ONNX file that holds compiled contexts; REPORT (JSON): what each provider computes
    python qnn_compile.py run PACKAGES CONTEXT IMAGES SOC_MODEL HTP_ARCH OUTPUTS
        IMAGES, OUTPUTS: .npy, float32, (n, channels, height, width) and (n, ...)

On failure the last line of standard error is the reason.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

EMBEDDED = {"ep.context_enable": "1", "ep.context_embed_mode": "1"}
REASON_MAX = 400


def compile_model(model: str, context: str, chip: dict[str, str], report: str) -> None:
    """The names of operators are those of the nodes that no context has, with their numbers."""
    import onnxruntime

    from vitsearch_agent.runtimes import ort_qnn

    session = _session(model, chip, EMBEDDED | {"ep.context_file_path": context})
    parts = [(part.ep_name, part.get_nodes()) for part in session.get_provider_graph_assignment_info()]
    left = (node.op_type for name, nodes in parts if name != ort_qnn.PROVIDER for node in nodes)
    found = {
        "contexts": sum(name == ort_qnn.PROVIDER for name, _ in parts),
        "npu_nodes": sum(len(nodes) for name, nodes in parts if name == ort_qnn.PROVIDER),
        "cpu_operators": dict(ort_qnn.named(left)),
        "compiler": f"onnxruntime-qnn {metadata.version('onnxruntime-qnn')} with onnxruntime {onnxruntime.__version__}",
    }
    Path(report).write_text(json.dumps(found))


def run(context: str, images_file: str, chip: dict[str, str], outputs_file: str) -> None:
    """Missing images of the last run are zeros."""
    import numpy as np

    session = _session(context, chip, {})
    images, (entry,) = np.load(images_file), session.get_inputs()
    size, outputs = int(entry.shape[0]), []
    for start in range(0, len(images), size):
        batch = np.zeros((size, *images.shape[1:]), np.float32)
        count = len(images[start : start + size])
        batch[:count] = images[start : start + size]
        outputs.append(session.run(None, {entry.name: batch})[0][:count])
    np.save(outputs_file, np.concatenate(outputs))


def _session(model: str, chip: dict[str, str], config: dict[str, str]) -> Any:
    import onnxruntime

    from vitsearch_agent.runtimes import ort_qnn

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    for key, value in config.items():
        settings.add_session_config_entry(key, value)
    ort_qnn.add_provider(settings, chip)
    # from its bytes: onnxruntime would name contexts by the path of the model, and a second bundle would differ
    return onnxruntime.InferenceSession(Path(model).read_bytes(), settings)


def main(arguments: list[str]) -> None:
    task, packages, first, second, soc_model, htp_arch, third = arguments
    sys.path.append(packages)  # last: what the environment has comes first
    chip = {"soc_model": soc_model, "htp_arch": htp_arch}
    if task == "compile":
        compile_model(first, second, chip, third)
    else:
        run(first, second, chip, third)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - whatever the compiler raises is the answer
        reason = " ".join(str(error).split())
        sys.exit(f"{type(error).__name__}: {reason[:REASON_MAX]}")
