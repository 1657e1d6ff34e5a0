"""Whether a device is still the one that it was: a known model, measured again and again.

    good        within `max_drift` of what it once took
    drifted     twice in a row further away than that, and than chance explains   --> quarantine
    unclear     between the two, or there is nothing to compare with yet

What it once took is kept for each environment: after an update or another power mode a device may
be as fast as it likes. While it is in quarantine, its results are flagged `unverified_device`, and
so are those since the last good canary. A good canary ends the quarantine.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from vitsearch_evaluators.agent.canary_model import model_for
from vitsearch_evaluators.base import json_reader
from vitsearch_evaluators.base.atomic_files import write_json
from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.conditions.job_context import JobContext
from vitsearch_evaluators.config import CanaryConfig
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.measure.child_process import StopSignal
from vitsearch_evaluators.measure.job_folder import JobFolder
from vitsearch_evaluators.measure.launch import THIS_PYTHON, Launch
from vitsearch_evaluators.measure.measure_job import measure_job
from vitsearch_evaluators.measure.memory_limit import NO_MEMORY_LIMIT, MemoryLimit
from vitsearch_evaluators.wire.job_spec import SCREEN, BlobRef, JobSpec, job_id
from vitsearch_evaluators.wire.measurement import Latency, Measurement

logger = logging.getLogger(__name__)

PROTOCOL = SCREEN._replace(id="canary-1", min_runs=100, min_s=1.0, processes=3)
"""Two seconds or so. Three processes, so that the interval knows how far one is from the next."""

FLAG = "unverified_device"
QUARANTINE_AGAIN_S = 60.0
UNVERIFIED_KEPT = 1000
ENVIRONMENTS_KEPT = 16


class Look(NamedTuple):
    """The median times of the canary, in ms, with their 95 % intervals."""

    cpu: Latency
    wall: Latency
    contended: bool

    @classmethod
    def of(cls, measurement: Measurement) -> "Look":
        assert measurement.cpu_ms is not None  # the canary's runtimes all count it
        return cls(measurement.cpu_ms, measurement.latency_ms, "contended" in measurement.flags)


class Reference(NamedTuple):
    """What the canary once took in an environment, with nothing else on the device."""

    cpu_ms: float
    wall_ms: float

    @classmethod
    def from_json(cls, value: Any, where: str = "reference") -> "Reference":
        return cls(**json_reader.read_object(value, _REFERENCE, where))


_REFERENCE = {"cpu_ms": json_reader.number(0.0), "wall_ms": json_reader.number(0.0)}


class State(NamedTuple):
    """What outlives the agent. `unverified`: the jobs done since the last good canary, oldest first."""

    references: Dict[str, Reference] = {}
    unverified: Sequence[str] = ()
    quarantined: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        references = {key: dict(one._asdict()) for key, one in self.references.items()}
        return dict(self._asdict(), references=references, unverified=list(self.unverified))

    @classmethod
    def from_json(cls, value: Any, where: str = "canary") -> "State":
        return cls(**json_reader.read_object(value, _STATE, where))


_STATE: Dict[str, json_reader.Reader] = {
    "references": json_reader.mapping(Reference.from_json),
    "unverified": json_reader.sequence(json_reader.text),
    "quarantined": json_reader.optional(json_reader.text),
}


class Canary:
    """Used by the worker's thread; `quarantined` may be read by others."""

    def __init__(self, path: str, config: CanaryConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._config = config
        self._clock = clock
        self._state = _load(path)
        self._looked_at = clock()
        self._jobs = len(self._state.unverified)

    @property
    def quarantined(self) -> Optional[str]:
        """Why this device's numbers are not trusted now; None when they are."""
        return self._state.quarantined

    def finished(self, job_id: str) -> None:
        """Count a job that was measured."""
        self._jobs += 1
        kept = (*self._state.unverified, job_id)[-UNVERIFIED_KEPT:]
        self._keep(self._state._replace(unverified=kept))

    def due(self, idle: bool) -> bool:
        """Whether it is the canary's turn: after so many jobs or seconds, and never with nothing to verify.

        The first look of all, with which later ones are compared, is taken as soon as the device is idle.
        """
        since_s = self._clock() - self._looked_at
        if self.quarantined is not None:
            return since_s >= min(QUARANTINE_AGAIN_S, self._config.every_s)
        if self._jobs == 0:
            return False
        first = idle and not self._state.references
        return first or self._jobs >= self._config.every_jobs or since_s >= self._config.every_s

    def look(self, environment_id: str, measure: Callable[[], Look], flag: Callable[[Sequence[str]], None]) -> None:
        """Measure and judge; `flag` is told the jobs whose results are not trusted any more.

        They are forgotten after that and not before: an agent that is killed between the two flags them
        after the next look.
        """
        seen = measure()
        reference = self._state.references.get(environment_id)
        if reference is None:
            self._adopt(environment_id, seen)
            return
        told = drift(reference, seen, self._config.max_drift)
        if told is not None:
            # Once more before the verdict: something passing may have been in the way.
            seen = measure()
            told = drift(reference, seen, self._config.max_drift)
        self.skip()
        if told is not None:
            logger.warning("quarantine: %s", told)
            flag(self._state.unverified)
            self._keep(self._state._replace(quarantined=told, unverified=()))
        elif is_good(reference, seen, self._config.max_drift):
            self._keep(self._state._replace(quarantined=None, unverified=()))

    def skip(self) -> None:
        """Wait for the next turn, as after a look: also when it could not be measured."""
        self._looked_at, self._jobs = self._clock(), 0

    def _adopt(self, environment_id: str, seen: Look) -> None:
        """Take what was seen in a new environment as what later looks are compared with, unless something else ran."""
        self.skip()
        if seen.contended:
            return
        references = dict(self._state.references, **{environment_id: Reference(seen.cpu.p50, seen.wall.p50)})
        kept = dict(list(references.items())[-ENVIRONMENTS_KEPT:])
        self._keep(State(kept, (), None))

    def _keep(self, state: State) -> None:
        self._state = state
        try:
            write_json(self._path, state.to_json())
        except OSError as error:  # a full disk is no reason to measure no more
            logger.warning("%s cannot be written: %s", self._path, error)


class Place(NamedTuple):
    """Where the canary is measured: a folder that is emptied for it, on which device, in which environment, and
    what holds its children."""

    folder: str
    device_id: str
    environment_id: str
    system: System
    memory_limit: MemoryLimit = NO_MEMORY_LIMIT


def measure(
    available: Sequence[str],
    place: Place,
    stop: StopSignal,
    launch_of: Callable[[str], Launch] = lambda name: THIS_PYTHON,
) -> Look:
    """Measure the canary's model as any other, under a runtime that is available."""
    model = model_for(available)
    blob = BlobRef("model.onnx", hashlib.sha256(model.content).hexdigest(), len(model.content))
    spec = JobSpec("measure", (blob,), model.runtime, model.options, PROTOCOL)
    shutil.rmtree(place.folder, ignore_errors=True)
    os.makedirs(place.folder)
    with open(os.path.join(place.folder, blob.name), "wb") as stream:
        stream.write(model.content)
    context = JobContext(job_id(spec, place.device_id), place.device_id, place.environment_id, 1, 0.0)
    job_folder = JobFolder(place.folder, stop, launch=launch_of(model.runtime), memory_limit=place.memory_limit)
    return Look.of(measure_job(spec, context, job_folder, system=place.system))


def drift(reference: Reference, seen: Look, max_drift: float) -> Optional[str]:
    """Say how far the device is off, when the whole interval of a time is further away than allowed.

    Wall time of a busy device says nothing about the device: then CPU time alone is judged.
    """
    for name, once_ms, now in _pairs(reference, seen):
        if now.ci95_low > once_ms * (1.0 + max_drift) or now.ci95_high < once_ms * (1.0 - max_drift):
            share = now.p50 / once_ms - 1.0 if once_ms > 0 else float("inf")
            return (
                f"the canary's {name} is {now.p50:.4g} ms ({now.ci95_low:.4g} to {now.ci95_high:.4g}), {share:+.1%} "
                f"from the {once_ms:.4g} ms that it once took; allowed are {max_drift:.1%}"
            )
    return None


def is_good(reference: Reference, seen: Look, max_drift: float) -> bool:
    """Whether what was seen is as near as it should be."""
    return all(abs(now.p50 - once_ms) <= max_drift * once_ms for _, once_ms, now in _pairs(reference, seen))


def _pairs(reference: Reference, seen: Look) -> List[Any]:
    pairs = [("CPU time", reference.cpu_ms, seen.cpu)]
    return pairs if seen.contended else [*pairs, ("latency", reference.wall_ms, seen.wall)]


def _load(path: str) -> State:
    """Read what an earlier life of the agent knew; a file that cannot be read is as if there were none."""
    try:
        with open(path) as stream:
            return State.from_json(json.load(stream))
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, InvalidRequest) as error:
        logger.warning("%s is not used: %s", path, error)
        return State()
