"""A runtime of one's own: onnx's reference evaluator, which computes a model in numpy, operator by operator.

It is slow, and what it computes is what the standard says, so its logits show which of two other runtimes is right.
The agent's process creates the class too, to check options: so libraries are imported inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitsearch_agent.artifacts import inspect
from vitsearch_agent.runtimes.base import Availability, Runtime, Session, refused
from vitsearch_agent.runtimes.inputs import Feeds, Input, random_feeds
from vitsearch_agent.wire.measure_protocol import Shapes


class ReferenceSession(Session):
    """A loaded model with one batch of inputs."""

    def __init__(self, evaluator: Any, feeds: Feeds) -> None:
        self.batch, self.shapes = feeds.sizes
        self._evaluator = evaluator
        self._inputs: dict[str, Any] = dict(zip(evaluator.input_names, feeds.arrays, strict=True))

    def run(self) -> None:
        """What is timed: one run, until its outputs are complete."""
        try:
            self._evaluator.run(None, self._inputs)
        except Exception as error:  # an operator without an implementation, or one that fails in numpy
            raise refused(error, "the reference evaluator cannot run the model") from error

    def infer(self, images: Any) -> Any:
        """The outputs of a batch, for outputs jobs."""
        try:
            return self._evaluator.run(None, dict.fromkeys(self._inputs, images))[0]
        except Exception as error:
            raise refused(error, "the model does not accept the images") from error

    def close(self) -> None:
        self._evaluator = None


class ReferenceRuntime(Runtime):
    """Runs ONNX files in numpy. It has no options: what comes over the network must never name a file or a command."""

    name = "onnx_reference"
    libraries = ("onnx",)
    gives_outputs = True

    def available(self) -> Availability:
        try:
            import onnx
            import threadpoolctl  # noqa: F401
        except ImportError as error:
            return Availability(False, f"a library cannot be imported: {error}", None, ())
        return Availability(True, None, onnx.__version__, ("numpy",), ("onnx",), precisions=("fp32",))

    def load(self, path: str, options: Mapping[str, Any], threads: int, batch: int | None, shapes: Shapes) -> Session:
        import onnx
        import threadpoolctl
        from onnx.reference import ReferenceEvaluator

        inspect("onnx", {"model.onnx": path})  # the agent's own check: refuses what no runtime should open
        threadpoolctl.threadpool_limits(threads)  # numpy's products would take every core
        try:
            evaluator = ReferenceEvaluator(onnx.load(path))
        except Exception as error:
            raise refused(error, f"onnx {onnx.__version__} rejects the model") from error
        named = zip(evaluator.input_names, evaluator.input_types, strict=True)
        inputs = [_input(name, kind) for name, kind in named]
        return ReferenceSession(evaluator, random_feeds(inputs, batch, shapes))


def _input(name: str, kind: Any) -> Input:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type).name
    dims = [one.dim_value or one.dim_param for one in kind.tensor_type.shape.dim]
    return Input(name, dtype, dims)
