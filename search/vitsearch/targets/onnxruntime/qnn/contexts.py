"""Context files for chips of Qualcomm, by onnxruntime-qnn in an environment of its own (`vitsearch.export.converters`).

A context file is an ONNX file in which one node, EPContext, holds what was compiled for the NPU of one chip. It loads
in milliseconds where compiling on the phone takes seconds. Several contexts, or operators between them, are slow: the
data goes back to the CPU. onnxruntime writes such files without a word, so what it says of its nodes and what the file
holds are both read.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import vitsearch_agent
from vitsearch.errors import StageError
from vitsearch.export import converters
from vitsearch.targets.onnxruntime.qnn.chips import CHIPS, Chip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "qnn"
SCRIPT = Path(__file__).with_name("qnn_compile.py")
PACKAGES = Path(vitsearch_agent.__file__).parents[1]
CONTEXT, CONTENT = "EPContext", "ep_cache_context"


@dataclass(frozen=True)
class Context:
    """A file that was compiled for a chip: how many `contexts` it holds, how many nodes of the model are in them, and
    which operators no context has, with their numbers. `compiler` names what compiled it, with its version."""

    chip: Chip
    path: Path
    contexts: int
    npu_nodes: int
    cpu_operators: Mapping[str, int]
    compiler: str

    @property
    def cpu_nodes(self) -> int:
        """The nodes that are left to the CPU, without the conversions of the images and the outputs."""
        return sum(self.cpu_operators.values())

    @property
    def is_whole(self) -> bool:
        """Whether one context has the whole model."""
        return self.contexts == 1 and not self.cpu_operators


def installed_python() -> Path:
    """The Python of the compiler; `StageError` `export` `missing` when it is not installed."""
    if reason := converters.converter_missing(NAME):
        raise StageError("export", "missing", reason)
    return converters.python_of(NAME)


def compiled(python: Path, model: Path, chip: Chip, path: Path) -> Context:
    """Compile an ONNX file for a chip into `path`, by the Python of the compiler. `StageError` `export` when it fails,
    and when no part of the model is for the NPU."""
    report = path.with_name(f"{path.stem}.json")
    converters.call(python, SCRIPT, ["compile", PACKAGES, model, path, *chip.options.values(), report])
    found = json.loads(report.read_text())
    report.unlink()
    if not found["contexts"]:
        listed = ", ".join(f"{name} {count}" for name, count in found["cpu_operators"].items())
        nothing = f"the NPU of {chip.name} computes nothing of {model.name}: the CPU has {listed}"
        raise StageError("export", "unsupported", nothing)
    contexts = _held(path)
    if contexts != found["contexts"]:
        wrong = f"{path.name} holds {contexts} contexts, and {found['contexts']} were compiled for {chip.name}"
        raise StageError("export", "crash", wrong)
    return Context(chip, path, contexts, found["npu_nodes"], found["cpu_operators"], found["compiler"])


def outputs(python: Path, context: Context, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the emulated NPU of the chip gives for `images` (n, channels, height, width), normalised: (n, ...)."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder, "images.npy"), Path(folder, "outputs.npy")
        np.save(given, images)
        converters.call(python, SCRIPT, ["run", PACKAGES, context.path, given, *context.chip.options.values(), answer])
        computed: NDArray[np.float32] = np.load(answer)
    if not np.isfinite(computed).all():
        raise StageError("export", "not_finite", f"{context.path.name}: NaN or infinity among the emulated outputs")
    return computed


def _held(path: Path) -> int:
    """The number of contexts in a file, the first of which has the content of all; `StageError` for a file without."""
    import onnx

    if not path.is_file():
        raise StageError("export", "crash", f"{SCRIPT.stem} ended well but wrote no file {path.name}")
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == CONTEXT]
    if not any(entry.s for node in nodes for entry in node.attribute if entry.name == CONTENT):
        nothing = f"{path.name} holds nothing for the NPU: every operator is left to the CPU"
        raise StageError("export", "unsupported", nothing)
    return len(nodes)


def verify(python: Path) -> None:
    """Compile a small model and run it in the emulation; `StageError` when that fails."""
    import numpy as np

    from vitsearch_agent.runtimes.reference_models import product_chain

    with tempfile.TemporaryDirectory() as name:
        model = Path(name, "model.onnx")
        model.write_bytes(product_chain(1, 8, 2))
        context = compiled(python, model, next(iter(CHIPS.values())), Path(name, "context.onnx"))
        outputs(python, context, np.ones((1, 1, 8), np.float32))
