"""The plugin point for runtimes: subclass Runtime, then run `testing.RuntimeTestCase` on it.

A Runtime object is made in the agent too, where it only checks options: importing the module and
calling `check_options` must not import the runtime's library. `available`, `with_limits` and `load`
are called in the measuring child alone.
"""

import abc
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from vitsearch_evaluators.errors import InvalidRequest, MeasurementFailed


class Availability(NamedTuple):
    """Whether a runtime can be used here; `reason` when not, `version` when so. The rest as in RuntimeInfo."""

    available: bool
    reason: Optional[str]
    version: Optional[str]
    providers: Tuple[str, ...]
    artifacts: Tuple[str, ...] = ("onnx",)
    max_opset: Optional[int] = None
    max_ir_version: Optional[int] = None
    precisions: Tuple[str, ...] = ()

    def to_json(self) -> Dict[str, Any]:
        value = dict(self._asdict())
        return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}


class Session(abc.ABC):
    """A loaded model with its inputs. `settled` tells what the runtime decided by itself, beside the options."""

    reported_options: Mapping[str, Any] = {}

    @abc.abstractmethod
    def run(self) -> None:
        """Run one batch and return when its outputs are there."""

    def infer(self, images: Any) -> Any:
        """Return the first output for a whole batch of images (a numpy array, N x C x H x W), N x classes.

        For runtimes that give outputs (`Runtime.gives_outputs`). Raises MeasurementFailed
        `incompatible_artifact` for images that the model does not take.
        """
        raise MeasurementFailed("runtime_unavailable", f"{type(self).__name__} gives no outputs")

    @abc.abstractmethod
    def close(self) -> None:
        """Free what the session holds."""


class RuntimeContext(NamedTuple):
    """What the agent lends a runtime: its program, a folder for what is worth keeping from job to job, and
    the environment that what is kept there belongs to."""

    tool: Optional[str] = None
    cache: Optional[str] = None
    environment: Optional[str] = None


NO_CONTEXT = RuntimeContext()


class Runtime(abc.ABC):
    """One way to run a model file."""

    name: str = ""

    gives_outputs = False
    """Whether its sessions can `infer`: accuracy jobs are taken for those alone."""

    options: Mapping[str, Tuple[Any, ...]] = {}
    """Allowed option -> its allowed values, the default first. Override `check_options` for more.

    Options come from the network. Never allow one that names a file, a library or a command.
    """

    def check_options(self, options: Mapping[str, Any]) -> Dict[str, Any]:
        """Return all options in effect; InvalidRequest for one that is not allowed."""
        for key, value in options.items():
            if key not in self.options:
                raise InvalidRequest(
                    f"options.{key}: {self.name} has no such option; it has {', '.join(sorted(self.options)) or 'none'}"
                )
            if value not in self.options[key]:
                raise InvalidRequest(
                    f"options.{key}: {value!r} is not one of {', '.join(map(repr, self.options[key]))}"
                )
        defaults = {key: values[0] for key, values in self.options.items()}
        return dict(defaults, **options)

    libraries: Tuple[str, ...] = ()
    """Modules of which one must be there. They are looked for, without importing them, in the agent's Python
    and in the system's; the child then runs where they are."""

    tools: Tuple[str, ...] = ()
    """Names or paths of a program that does the work; the first that is there becomes `equipment.tool`."""

    prepares: bool = False
    """Whether a process of its own makes something of the model before it is measured (see `ToolRuntime`)."""

    context: RuntimeContext = NO_CONTEXT
    """Set in the child."""

    def reserves_addresses(self, options: Mapping[str, Any]) -> bool:
        """Whether it maps far more addresses than it uses, as CUDA does; a limit on them would be none on memory."""
        return False

    @abc.abstractmethod
    def available(self) -> Availability:
        """Say whether the library is here, without loading a model."""

    def with_limits(self, state: Availability) -> Availability:
        """Complete what `available` found with what only a trial shows; only the runtime check calls it."""
        return state

    @abc.abstractmethod
    def load(self, path: str, options: Mapping[str, Any], threads: int, batch: int) -> Session:
        """Load a model file and make its inputs.

        `options` are those of `check_options`. Raises MeasurementFailed: `incompatible_artifact`
        for a file that this runtime cannot run, `runtime_unavailable` for a missing provider,
        `out_of_memory`.
        """


def is_out_of_memory(error: Exception) -> bool:
    """Whether a library's error is about memory; none has a class of its own for it."""
    text = str(error).lower()
    signs = ("bad_alloc", "out of memory", "failed to allocate", "memory allocation")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def concrete_shape(name: str, shape: Sequence[Union[int, str, None]], batch: int) -> List[int]:
    """Return an input's shape with its open dimensions set to the batch.

    Raises MeasurementFailed when the model was exported with another, fixed batch.
    """
    concrete = [size if isinstance(size, int) and size > 0 else batch for size in shape]
    if concrete and concrete[0] != batch:
        raise MeasurementFailed(
            "incompatible_artifact",
            f"input {name!r} has the fixed shape {list(shape)}, but the protocol asks for a batch of {batch}",
        )
    return concrete
