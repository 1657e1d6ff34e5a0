"""Examine a network that the user brings, in a process of its own: the driver never imports its code.

python -m vitsearch.backbones.examine REQUEST RESULT      both are JSON files
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Network, NetworkFacts, OnnxNetwork, PythonNetwork
from vitsearch.core.plan import Distillation
from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.core.targets import TARGETS
from vitsearch.errors import NetworkError, VitsearchError
from vitsearch_agent.base.python import SAFE_PATH, run_module
from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.environment import available_mb

if TYPE_CHECKING:
    from vitsearch.models.backbone import Backbone

LONGEST_S = 300.0
"""After so many seconds a network that is still being examined is refused: its code waits for something."""
LAST_WORDS = 300
"""Characters of its standard error that are quoted where the process ended by a signal."""
RATIO = 0.5
RATIOS = (
    "depth_pruning_ratio",
    "embed_pruning_ratio",
    "head_pruning_ratio",
    "ffn_pruning_ratio",
    "token_pruning_ratio",
)
SPARSITIES = ("50%", "75%", "2:4")
PRECISIONS = tuple(dict.fromkeys(precision for runtime in TARGETS.values() for precision in runtime.precisions))


def examine(network: Network, weights: str, resolutions: Sequence[ImageSize]) -> NetworkFacts:
    """Find out what the driver has to know of a network.

    Args:
        network: The network.
        weights: Its starting weights, `none` or `file:PATH`.
        resolutions: Sizes of images that a space file asks for.

    Returns:
        Its facts.

    Raises:
        NetworkError: It cannot be imported or read, or is none that can be searched.
    """
    return _examine(network, weights, tuple(sorted({*resolutions, network.resolution})), _newest(network))


@cache
def _examine(network: Network, weights: str, resolutions: tuple[ImageSize, ...], newest: int) -> NetworkFacts:
    kind = "onnx" if isinstance(network, OnnxNetwork) else "python"
    sizes = [size.to_json() for size in resolutions]
    request = {"kind": kind, "network": network.to_json(), "weights": weights, "resolutions": sizes}
    with TemporaryDirectory() as folder:
        request_file, result = Path(folder) / "request.json", Path(folder) / "result.json"
        request_file.write_text(json.dumps(request))
        command = run_module(sys.executable, __name__, os.fspath(request_file), os.fspath(result))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, env=_environment())
        except subprocess.TimeoutExpired:
            raise NetworkError(
                f"{network.name}: building, tracing and cutting it took longer than {LONGEST_S:g} s; does its code "
                "wait for something?"
            ) from None
        if not result.is_file():
            last = " ".join(done.stderr.split())[-LAST_WORDS:]
            said = f"; its last words: {last}" if last else ""
            raise NetworkError(
                f"{network.name}: its code ended the process that examined it (exit code {done.returncode}){said}"
            )
        answer: dict[str, Any] = json.loads(result.read_text())
    if "error" in answer:
        raise NetworkError(answer["error"])
    return NetworkFacts.from_json(answer)


def _environment() -> dict[str, str]:
    """That of this process, with the modules that it finds, on no GPU."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, SAFE_PATH: "1", "CUDA_VISIBLE_DEVICES": ""}


def _newest(network: Network) -> int:
    """When the files that make a network were changed last: changed code is examined again."""
    if isinstance(network, OnnxNetwork):
        files = [Path(network.path)]
    else:
        top = Path(network.folder, network.entry.partition(":")[0].partition(".")[0])
        files = [top.with_suffix(".py"), *Path(network.folder).glob("*.py"), *top.rglob("*.py")]
    return max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)


def main(request_file: str, result_file: str) -> None:
    """Examine the network of a request, and write what was found or what is wrong with it."""
    request = json.loads(Path(request_file).read_text())
    _limit_memory()
    try:
        answer: dict[str, Any] = _facts(request).to_json()
    except MemoryError:
        name = request["network"]["name"]
        answer = {"error": f"{name}: building, tracing and cutting it took more memory than this machine has left"}
    except VitsearchError as error:
        answer = {"error": str(error)}
    Path(result_file).write_text(json.dumps(answer))


def _limit_memory() -> None:
    """Let this process have as much memory as is available now: with more, the kernel ends other programs too."""
    import resource  # not on Windows

    available = available_mb(System())
    if available is not None:
        limit = int(available * 1e6)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _facts(request: dict[str, Any]) -> NetworkFacts:
    if request["kind"] == "onnx":
        return _facts_of_file(request)
    from vitsearch.backbones.python_family import PythonFamily, examine_network

    network = PythonNetwork.from_json(request["network"])
    family, own = PythonFamily(network), examine_network(network)
    refusals = dict(_refusals(family, network.name, request["weights"]))
    resolutions: list[ImageSize] = []
    for size in map(ImageSize.of, request["resolutions"]):
        reason = family.supports(network.name, "resolution", size)
        if reason is None:
            resolutions.append(size)
        else:
            refusals[f"resolution={size}"] = reason
    return NetworkFacts(
        own.architecture,
        network.resolution,
        own.channels,
        own.fixed_classes,
        tuple(resolutions),
        refusals,
        tuple(family.levels(network.name).lines()),
        own.exporter.name,
        gives_map=own.gives_map,
        structure=family.structure(network.name).digest,
    )


def _facts_of_file(request: dict[str, Any]) -> NetworkFacts:
    from vitsearch.backbones.onnx_family import OnnxFamily, facts_of

    network = OnnxNetwork.from_json(request["network"])
    family = OnnxFamily(network)
    refusals = dict(_refusals(family, network.name, request["weights"]))
    for size in map(ImageSize.of, request["resolutions"]):
        if (reason := family.supports(network.name, "resolution", size)) is not None:
            refusals[f"resolution={size}"] = reason
    return facts_of(network, refusals)


def _refusals(family: Backbone, name: str, weights: str) -> list[tuple[str, str]]:
    """The reason for each knob, or value of a knob, that the family does not support."""
    values: list[tuple[str, str, Any]] = [("weights", "weights", weights), ("window_size", "window_size", 7)]
    values += [(knob, knob, RATIO) for knob in RATIOS]
    words = {
        "weight_sparsity": SPARSITIES,
        "distillation": get_args(Distillation),
        "quantization": PRECISIONS,
        "quantized_ops": (LINEAR, ALL),
        "backend": tuple(TARGETS),
        "batch": ("open",),
    }
    values += [(f"{knob}={word}", knob, word) for knob, listed in words.items() for word in listed]
    reasons = ((key, family.supports(name, knob, value)) for key, knob, value in values)
    return [(key, reason) for key, reason in reasons if reason is not None]


if __name__ == "__main__":
    main(*sys.argv[1:])
