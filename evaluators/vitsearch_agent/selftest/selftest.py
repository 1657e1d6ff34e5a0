"""The selftest of a device: step after step, each with an outcome, within a time limit."""

import contextlib
import os
import signal
import threading
import time
from typing import Any, Callable, Iterator, List, NamedTuple, Optional

from vitsearch_agent import __version__
from vitsearch_agent.base import processes
from vitsearch_agent.base.canonical_json import utc_now
from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.environment import fingerprint
from vitsearch_agent.errors import AgentError
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.figures.reference_store import ReferenceStore
from vitsearch_agent.measure.job_folder import Isolation
from vitsearch_agent.measure.warm_parents import WarmParents
from vitsearch_agent.selftest import steps
from vitsearch_agent.selftest.recording import Recorder
from vitsearch_agent.selftest.reference_runs import ReferenceRuns
from vitsearch_agent.selftest.report import FAILED, FORMAT, PASSED, SKIPPED, Finding, SelftestReport, StepResult
from vitsearch_agent.selftest.steps import Settings
from vitsearch_agent.wire.device_info import DeviceInfo, RuntimeInfo

OnStep = Callable[[StepResult], None]


class _TimeIsUp(BaseException):
    """Raised in the main thread when the time of the selftest is over; nothing below takes it for an error."""


class Subject(NamedTuple):
    """The device that is tested.

    Attributes:
        system: What is read for temperature, throttling, power and settings; the report has a recording of it.
        state: The folder of an agent, whose configuration names the programs of runtimes and the meter; None for none.
        installation: The step that tries to install the agent, as the command line does; it gets a folder.
    """

    system: System
    state: Optional[str]
    installation: Callable[[str], Finding]


class Selftest:
    """Runs steps one after the other and keeps their results.

    Args:
        seconds: After these the step that runs is ended, and no other one starts.
        on_step: Called with each result.
    """

    def __init__(self, seconds: float, on_step: OnStep) -> None:
        self.results: List[StepResult] = []
        self._seconds = seconds
        self._end_s = time.monotonic() + seconds
        self._on_step = on_step

    def step(self, name: str, work: Callable[[], Finding]) -> StepResult:
        """Run a step. An error of it is its result, and the next step follows."""
        start_s = time.monotonic()
        try:
            with self._ending():
                finding = work()
        except _TimeIsUp:
            finding = Finding(SKIPPED, f"the {self._seconds:g} s of a selftest were over")
        except AgentError as error:
            finding = Finding(FAILED, str(error), {"error": error.to_json()})
        except Exception as error:  # noqa: BLE001 - whatever it is, the owner of the board sends it back
            finding = Finding(FAILED, f"{type(error).__name__}: {error}")
        result = StepResult(name, finding.outcome, finding.message, time.monotonic() - start_s, finding.details)
        self.results.append(result)
        self._on_step(result)
        return result

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Raise _TimeIsUp in the block when the time is over; a thread other than the main one cannot."""
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise _TimeIsUp
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ring(_number: int, _frame: Any) -> None:
            raise _TimeIsUp

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, left_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def selftest(
    subject: Subject,
    folder: str,
    on_step: OnStep,
    settings: Settings = Settings(),  # noqa: B008 - immutable
) -> SelftestReport:
    """Try everything that the agent needs on a device.

    Args:
        subject: The device.
        folder: An empty folder for what is written meanwhile.
        on_step: Called with the result of each step.
        settings: How long the steps take.

    Returns:
        The report, whatever failed.
    """
    started_at, start_s = utc_now(), time.monotonic()
    processes.adopt_orphans()
    recorder = Recorder(subject.system)
    test = Selftest(settings.seconds, on_step)
    os.makedirs(os.path.join(folder, "installation"))
    test.step("installation", lambda: subject.installation(os.path.join(folder, "installation")))
    with contextlib.closing(StopSignal()) as stop, contextlib.closing(WarmParents()) as parents:
        references = ReferenceStore(os.path.join(folder, "references.json"))
        isolation = Isolation((os.path.realpath(os.path.join(folder, "installation")),))
        runs = ReferenceRuns(
            folder=os.path.join(folder, "runs"),
            state=subject.state,
            system=recorder.system,
            stop=stop,
            parents=parents,
            references=references,
            isolation=isolation,
        )
        os.makedirs(runs.folder)
        device = _steps(test, runs, settings)
    steps_done = tuple(test.results)
    seconds = time.monotonic() - start_s
    return SelftestReport(FORMAT, __version__, started_at, seconds, steps_done, device, recorder.recording())


def _steps(test: Selftest, runs: ReferenceRuns, settings: Settings) -> Optional[DeviceInfo]:
    """Run the steps on the reference models; return what the agent that was started says of the device."""
    test.step("restrictions", lambda: steps.restrictions(runs))
    found = test.step("runtimes", lambda: steps.find_runtimes(runs)).details.get("runtimes", ())
    infos = [RuntimeInfo.from_json(info) for info in found]
    test.step("environment", lambda: _environment(runs, infos))
    test.step("power meters", lambda: steps.meters(runs))
    tried, loaded = steps.load_for(infos)
    if loaded is None:
        return None
    killed = test.step("kill and resume", lambda: steps.kill_and_resume(runs, loaded, settings))
    for info in tried:
        _repeatability(test, runs, info, settings)
    for info in steps.without_models(infos):
        test.step(f"repeatability of {info.name}", lambda: Finding(SKIPPED, "the agent has no model that it reads"))
    test.step("heat", lambda: steps.heat(runs, loaded, settings))
    for info in tried:
        if "onnx" in info.artifacts:
            _precisions(test, runs, info, settings)
    device = killed.details.get("device")
    return None if device is None else DeviceInfo.from_json(device)


def _repeatability(test: Selftest, runs: ReferenceRuns, info: RuntimeInfo, settings: Settings) -> None:
    test.step(f"repeatability of {info.name}", lambda: steps.repeatability(runs, info, settings))


def _precisions(test: Selftest, runs: ReferenceRuns, info: RuntimeInfo, settings: Settings) -> None:
    test.step(f"precisions of {info.name}", lambda: steps.precisions(runs, info, settings))


def _environment(runs: ReferenceRuns, infos: List[RuntimeInfo]) -> Finding:
    """Describe the device as every measurement does."""
    environment = fingerprint(__version__, infos, runs.system)
    name = environment["board"] or environment["cpu"] or "a device without a name"
    words = [
        str(name),
        f"{environment['cores']} cores",
        f"{environment['ram_mb']} MB",
        f"Linux {environment['kernel']}",
    ]
    if environment["emulation"] is not None:
        words.append(
            f"instructions translated by {environment['emulation']['translator']}: "
            "its times are not those of a real device"
        )
    elif environment["virtual"]:
        words.append("a virtual machine")
    return Finding(PASSED, ", ".join(words), {"fingerprint": environment})
