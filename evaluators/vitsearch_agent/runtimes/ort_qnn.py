"""The NPUs of Qualcomm in onnxruntime: a provider that is registered from the package onnxruntime-qnn.

It is not among onnxruntime's own providers, and naming it without registering it gives the CPU without an error. The
NPU (HTP) compiles the part of the graph that it can compute; the CPU computes the rest, again without an error. So the
nodes of each are asked for and recorded.

On a processor other than Arm the same library emulates the NPU: its outputs are those of the NPU, its times those of
no device. Run: onnxruntime-qnn 2.7.0 with onnxruntime 1.32.0 on x86-64. Not run: on a Qualcomm chip.
"""

import importlib.util
import platform
from collections import Counter
from typing import Any, Dict, Iterable, Optional, Tuple

from vitsearch_agent.errors import MeasurementFailed

PROVIDER = "QNNExecutionProvider"
PACKAGE = "onnxruntime_qnn"
BACKEND = {"backend_type": "htp"}
IMITATED_CHIP = {"soc_model": "57", "htp_arch": "75"}
"""What is imitated where no chip is named: a Snapdragon 8 Gen 3. The library would imitate one of v68, for whose NPU it
does not compile a ViT in fp32."""
NODES_OF_PROVIDERS = "session.record_ep_graph_assignment_info"
"""The setting by which a session records which provider has which nodes."""
CPU_NODES, CPU_OPERATORS = "cpu_nodes", "cpu_operators"
"""The options of a result that say what the NPU left to the CPU."""
_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Of what the NPU reads and gives. By default the provider leaves those of the images and the outputs to the CPU."""
_ARM = ("aarch64", "arm")
_OLDEST = "register_execution_provider_library"
"""What onnxruntime has since it takes providers as plugins (1.23)."""


def is_installed(onnxruntime: Any) -> bool:
    """Return whether the package is there, without loading its libraries of 100 MB into a process that may not need
    them."""
    return hasattr(onnxruntime, _OLDEST) and importlib.util.find_spec(PACKAGE) is not None


def is_emulated(machine: Optional[str] = None) -> bool:
    """Return whether the package's library imitates the NPU on a processor of this kind (None: this one)."""
    return not (machine or platform.machine()).lower().startswith(_ARM)


def add_provider(settings: Any, chip: Optional[Dict[str, str]] = None) -> None:
    """Add the NPU to the SessionOptions of a session to be made.

    Args:
        settings: What it is added to, in place.
        chip: `soc_model` and `htp_arch` of the chip that is compiled for or emulated; None for the one of this device
            or, where that has none, IMITATED_CHIP.

    Raises:
        MeasurementFailed: `runtime_unavailable`, when the package does not load or finds no device.
    """
    import onnxruntime

    try:
        import onnxruntime_qnn

        if not any(device.ep_name == PROVIDER for device in onnxruntime.get_ep_devices()):
            onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    except Exception as error:  # an ImportError, an OSError of the loader, or one of onnxruntime's own
        raise MeasurementFailed("runtime_unavailable", f"onnxruntime-qnn does not load: {error}") from error
    if not devices:
        raise MeasurementFailed("runtime_unavailable", "onnxruntime-qnn finds no NPU of Qualcomm")
    settings.add_session_config_entry(NODES_OF_PROVIDERS, "1")
    chosen = chip or (IMITATED_CHIP if is_emulated() else {})
    settings.add_provider_for_devices(devices[:1], dict(BACKEND, **chosen))


def left_on_cpu(session: Any) -> Dict[str, Any]:
    """Return the number of nodes that the CPU computes, and which, as options of a result.

    Args:
        session: An onnxruntime.InferenceSession with the provider.

    Returns:
        `cpu_nodes`, and `cpu_operators` such as `LayerNormalization 13, Gather 1`.

    Raises:
        MeasurementFailed: `runtime_unavailable`, when the NPU computes nothing.
    """
    parts = [(part.ep_name, [node.op_type for node in part.get_nodes()]) for part in _assigned(session)]
    if not any(name == PROVIDER for name, _ in parts):
        raise MeasurementFailed(
            "runtime_unavailable", f"{PROVIDER} takes no node of the model; onnxruntime fell back to the CPU"
        )
    left = named(operator for name, operators in parts if name != PROVIDER for operator in operators)
    return {CPU_NODES: sum(count for _, count in left), CPU_OPERATORS: ", ".join(f"{name} {n}" for name, n in left)}


def named(operators: Iterable[str]) -> Tuple[Tuple[str, int], ...]:
    """Return operators with their numbers, the most frequent first, without the conversions of inputs and outputs."""
    counts = Counter(operator for operator in operators if operator not in _CONVERSIONS)
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _assigned(session: Any) -> Any:
    try:
        return session.get_provider_graph_assignment_info()
    except Exception as error:  # its exceptions have no other common class
        raise MeasurementFailed(
            "runtime_unavailable", f"this onnxruntime does not say what the NPU computes: {error}"
        ) from error
