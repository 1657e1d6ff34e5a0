"""The plugin point for runtimes: subclass Runtime, then run `testing.RuntimeTestCase` on it.

The agent also creates Runtime objects, to check options: importing the module and calling `check_options`
must not import the runtime's library. Only the measuring child calls `available`, `with_limits` and `load`.
"""

import abc
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.wire.measure_protocol import Shapes


class Availability(NamedTuple):
    """Whether a runtime can be used. The fields that are not listed are as in RuntimeInfo.

    Attributes:
        available: Whether it can be used.
        reason: Why it cannot.
        version: That of the library or program.
        providers: What can compute, such as `cpu`.
    """

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
    """A loaded model with its inputs.

    Attributes:
        reported_options: Settings that the runtime chose itself; the result records them with the options.
        batch: The number of images in a run.
        shapes: The shape of each input (empty: the model has none; None: the runtime does not tell).
    """

    reported_options: Mapping[str, Any] = {}
    batch: int = 1
    shapes: Optional[Shapes] = None

    @abc.abstractmethod
    def run(self) -> None:
        """Run one batch and return when its outputs are complete.

        Raises:
            MeasurementFailed: The library refuses to run the model; with its own words (see `refused`). Any other
                exception counts as a crash.
        """

    def infer(self, images: Any) -> Any:
        """Return what the model says of images. Only for runtimes with `gives_outputs`.

        Args:
            images: A full batch, as a numpy array (N, C, H, W).

        Returns:
            The first output, a numpy array (N, ...).

        Raises:
            MeasurementFailed: `incompatible_artifact` for images that the model does not accept.
        """
        raise MeasurementFailed("runtime_unavailable", f"{type(self).__name__} gives no outputs")

    @abc.abstractmethod
    def close(self) -> None:
        """Free the resources of the session."""


class RuntimeContext(NamedTuple):
    """What a runtime needs from the agent in the child.

    Attributes:
        tool: The path of its program.
        cache: A folder for files to keep between jobs.
        environment: The id of the environment to which these files belong.
    """

    tool: Optional[str] = None
    cache: Optional[str] = None
    environment: Optional[str] = None


NO_CONTEXT = RuntimeContext()


class ReferenceRuntime(NamedTuple):
    """A runtime and its options, for the reference models."""

    runtime: "Runtime"
    options: Dict[str, Any]


class Runtime(abc.ABC):
    """One way to run a model file.

    The agent creates it too, to check options. Only the measuring child calls `available`, `with_limits` and `load`.

    Attributes:
        name: The name under which it is registered.
    """

    name: str = ""

    gives_outputs = False
    """Whether its sessions implement `infer`, which outputs jobs need."""

    ignores_model = False
    """Whether it runs the same whatever the model is: its figures say nothing about a model."""

    options: Mapping[str, Tuple[Any, ...]] = {}
    """Allowed option -> its allowed values, the default first. Override `check_options` for other checks.

    Options come from the network. Never allow one that names a file, a library or a command.
    """

    def survives_fork(self, options: Mapping[str, Any]) -> bool:
        """Say whether a process that is forked after `available` runs models as one that is started.

        Devices and threads that a library opens when it is imported do not survive.

        Args:
            options: Those of a job, by name.

        Returns:
            False where nobody has tried.
        """
        return False

    def check_options(self, options: Mapping[str, Any]) -> Dict[str, Any]:
        """Return all options in effect.

        Args:
            options: Those of a job, by name.

        Returns:
            The options of the job, and the defaults of the others.

        Raises:
            InvalidRequest: An option is not allowed, or its value is not.
        """
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
    """Modules of which one must be installed. The agent looks for them, without an import, in its own Python and in
    the system's; the child then runs in the Python that has one."""

    tools: Tuple[str, ...] = ()
    """Names or paths of a program that runs the models; the first one found becomes `context.tool`."""

    prepares: bool = False
    """Whether a separate process prepares the model before it is measured (see `ToolRuntime.prepare`)."""

    context: RuntimeContext = NO_CONTEXT
    """Set in the child."""

    def reference(self, options: Mapping[str, Any]) -> Optional["ReferenceRuntime"]:
        """Return what runs the ONNX reference models beside a model.

        Overriding it changes the time of the references, so do not do it for a runtime that has results.

        Args:
            options: Those in effect for the model.

        Returns:
            A runtime and its options; None if nothing can run them: another processor than theirs, or no library that
            reads ONNX.
        """
        return None

    def reserves_addresses(self, options: Mapping[str, Any]) -> bool:
        """Return whether the runtime maps far more addresses than it uses, as CUDA does.

        Args:
            options: Those in effect.

        Returns:
            True if an address limit cannot limit the memory of this runtime.
        """
        return False

    def emulates(self, options: Mapping[str, Any]) -> bool:
        """Return whether this machine imitates the processor that computes: its times are then those of no device.

        Args:
            options: Those in effect.

        Returns:
            True if results are to be marked as emulated.
        """
        return False

    def uses_cuda(self, options: Mapping[str, Any]) -> bool:
        """Return whether the runtime computes on a GPU of NVIDIA, whose driver counts the memory of each process.

        Args:
            options: Those in effect.

        Returns:
            True where `gpu_memory_mb` can be read.
        """
        return False

    @abc.abstractmethod
    def available(self) -> Availability:
        """Return whether the library is installed, without loading a model.

        Returns:
            Its version and providers, or the reason why it cannot be used.
        """

    def with_limits(self, state: Availability) -> Availability:
        """Complete what `available` found with what only a trial shows; only the runtime check calls it.

        Args:
            state: What `available` returned.

        Returns:
            The same, for example with the highest opset that can be loaded.
        """
        return state

    @abc.abstractmethod
    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> Session:
        """Load a model file and make its inputs.

        Args:
            path: The first file of the model.
            options: Those in effect, as `check_options` returned them.
            threads: The number of threads that may compute.
            batch: The number of images in a run; None for the model's own, 1 if that is open.
            shapes: Input -> its sizes, of inputs that have other open dimensions (see `run_shapes`).

        Returns:
            The model, ready to run.

        Raises:
            MeasurementFailed: `incompatible_artifact` for a file that this runtime cannot run or shapes that the model
                does not have, `runtime_unavailable` for a missing provider, `out_of_memory`.
        """

    def load_streams(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes, streams: int
    ) -> Sequence[Session]:
        """Load a model of which several runs are in flight at a time, each in a thread of its own.

        Override it where the runs of a library can share one loaded model, as in an application with several cameras:
        on two idle cores, two requests to one model of OpenVINO gave 2.2 times the throughput of two models.

        Args:
            path: The first file of the model.
            options: Those in effect.
            threads: The number of threads of each run.
            batch: As in `load`.
            shapes: As in `load`.
            streams: The number of runs in flight.

        Returns:
            A session for each stream.

        Raises:
            MeasurementFailed: As `load`.
        """
        return [self.load(path, options, threads, batch, shapes) for _ in range(streams)]


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a library's error is about memory; the libraries have no exception class for it.

    Args:
        error: What the library raised.

    Returns:
        True for a MemoryError, and for a message that speaks of memory.
    """
    text = str(error).lower()
    signs = ("bad_alloc", "out of memory", "failed to allocate", "memory allocation", "t allocate memory")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def refused(error: Exception, sentence: str) -> MeasurementFailed:
    """Return the failure for an error of a runtime's library.

    Args:
        error: What the library raised.
        sentence: What it refused; its own words follow.

    Returns:
        A failure `out_of_memory` or `incompatible_artifact`, to raise.
    """
    kind = "out_of_memory" if is_out_of_memory(error) else "incompatible_artifact"
    return MeasurementFailed(kind, f"{sentence}: {str(error).strip()}")
