"""The times that the reference models take on this machine when it is quiet, learnt from all measurements.

    every measuring process adds the times of both references  -->  the last 200 for each environment, runtime, threads
    the .1 quantile of their mean, the .4 quantile of their ratio                           -->  ReferenceTimes

A machine that is shared with others is quiet only now and then, and nobody can say when. Over many processes the lowest
tenth of the geometric mean is what the machine can do; a measurement's own reference times show how far it was from
that. Their ratio is taken from below its median, where the memory is less used by others, but near what most
measurements see, so less depends on the weight of a model: with two fifths instead of a quarter, 34 instead of 45 of 80
screens of five models were contended beside a load of 5 to 10, and their standard deviations and coverage were alike.

The process of a model reports these times, and may report what it likes: those of a model that are far from what all
other models have seen do not count (`_believed`).
"""

import json
import logging
import math
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.measure.child.phase_reports import ProcessReport
from vitsearch_agent.wire.distribution import median, quantile
from vitsearch_agent.wire.paired import ReferenceTimes

logger = logging.getLogger(__name__)

QUIET_QUANTILE, QUIET_RATIO_QUANTILE = 0.1, 0.4
KEPT = 200
STABLE_AFTER, STABLE_WITHIN = 20, 0.02
"""The times are stable after this many processes if the last quarter of them changed them by at most this share."""
DISTURBED_ABOVE = 1.05
"""A machine counts as disturbed when half of the processes exceed the quiet times by this factor."""
_FEWEST_TO_JUDGE = 5
FEWEST_WITNESSES, WITNESSED_WITHIN = 3, 1.5
"""Of three models or more, one with a time that differs by this factor from those of every other does not count. A
machine that really becomes faster shows it to the next model too."""
_KEYS_KEPT = 32


class ReferenceKey(NamedTuple):
    """What the times of a reference depend on."""

    reference: str
    environment_id: str
    runtime: str
    threads: int

    def __str__(self) -> str:
        return f"{self.reference}:{self.environment_id}:{self.runtime}:{self.threads}"


class Observed(NamedTuple):
    """The median times of both references in one process, in ms."""

    products_cpu_ms: float
    convolutions_cpu_ms: float
    products_wall_ms: float
    convolutions_wall_ms: float

    @classmethod
    def of(cls, report: ProcessReport) -> Optional["Observed"]:
        """Return the times in a process, None if no reference ran in it or a clock was too coarse."""
        pairs = [pair for burst in report.bursts for pair in burst]
        if not pairs:
            return None
        times = cls(
            median([pair.products.cpu_ms for pair in pairs]),
            median([pair.convolutions.cpu_ms for pair in pairs]),
            median([pair.products.wall_ms for pair in pairs]),
            median([pair.convolutions.wall_ms for pair in pairs]),
        )
        return times if all(value > 0 for value in times) else None


class FromModel(NamedTuple):
    """The times in a process of a model, which has this digest."""

    model: str
    times: Observed


class ReferenceStore:
    """Keeps the observed times in a JSON file; without a path, in memory.

    Several processes of a user may share a file. They measure in turns (`base.locks`), so each reads it before it adds.
    """

    def __init__(self, path: Optional[str] = None) -> None:
        self._path = path
        self._observed: Dict[str, List[FromModel]] = {} if path is None else _load(path, {})

    def add(self, key: ReferenceKey, model: str, observed: Sequence[Observed]) -> None:
        """Add the times of processes of a model."""
        if self._path is not None:
            self._observed = _load(self._path, self._observed)
        kept = (self._observed.pop(str(key), []) + [FromModel(model, times) for times in observed])[-KEPT:]
        self._observed[str(key)] = kept  # the last key is the one used last
        for oldest in list(self._observed)[:-_KEYS_KEPT]:
            del self._observed[oldest]
        if self._path is not None:
            try:
                os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
                write_json(self._path, self._observed)
            except OSError as error:  # a full disk does not stop the measuring
                logger.warning("%s cannot be written: %s", self._path, error)

    def times(self, key: ReferenceKey) -> Optional[ReferenceTimes]:
        """Return the quiet times; None if no process has run."""
        observed = _believed(self._observed.get(str(key), []))
        if not observed:
            return None
        now, before = _quiet(observed), _quiet(observed[: -(-len(observed) * 3 // 4)])
        moved = max(abs(new / old - 1.0) for new, old in zip(now, before))
        is_provisional = len(observed) < STABLE_AFTER or moved > STABLE_WITHIN
        return ReferenceTimes(**now._asdict(), processes=len(observed), provisional=is_provisional)

    def is_disturbed(self, key: ReferenceKey) -> bool:
        """Return whether other work often slows this machine down."""
        observed = _believed(self._observed.get(str(key), []))
        if len(observed) < _FEWEST_TO_JUDGE:
            return False
        usual = [median(values) for values in zip(*observed)]
        return any(value > DISTURBED_ABOVE * quiet for value, quiet in zip(usual, _quiet(observed)))


def _believed(reported: Sequence[FromModel]) -> List[Observed]:
    """Return the times without those of models that no other model has seen in the like."""
    by_model: Dict[str, List[Observed]] = {}
    for model, times in reported:
        by_model.setdefault(model, []).append(times)
    usual = {model: [median(values) for values in zip(*observed)] for model, observed in by_model.items()}
    if len(usual) >= FEWEST_WITNESSES:
        for field in range(len(Observed._fields)):
            order = sorted(usual, key=lambda model: usual[model][field])
            if usual[order[1]][field] > WITNESSED_WITHIN * usual[order[0]][field]:
                by_model.pop(order[0], None)
            if usual[order[-1]][field] > WITNESSED_WITHIN * usual[order[-2]][field]:
                by_model.pop(order[-1], None)
    return [times for model, times in reported if model in by_model]


def _quiet(observed: Sequence[Observed]) -> Observed:
    cpu = _quiet_pair([(times.products_cpu_ms, times.convolutions_cpu_ms) for times in observed])
    wall = _quiet_pair([(times.products_wall_ms, times.convolutions_wall_ms) for times in observed])
    return Observed(cpu[0], cpu[1], wall[0], wall[1])


def _quiet_pair(pairs: Sequence[Tuple[float, float]]) -> Tuple[float, float]:
    """Return the quiet times of products and convolutions."""
    mean = quantile(sorted(math.sqrt(products * convolutions) for products, convolutions in pairs), QUIET_QUANTILE)
    ratio = quantile(sorted(products / convolutions for products, convolutions in pairs), QUIET_RATIO_QUANTILE)
    return mean * math.sqrt(ratio), mean / math.sqrt(ratio)


_time = json_reader.number(1e-9)


def _read_observed(value: Any, where: str) -> Observed:
    times = json_reader.sequence(_time, len(Observed._fields))(value, where)
    if len(times) != len(Observed._fields):
        raise InvalidRequest(f"{where}: expected {len(Observed._fields)} times, got {len(times)}")
    return Observed(*times)


def _read_from_model(value: Any, where: str) -> FromModel:
    if not isinstance(value, list) or len(value) != len(FromModel._fields):
        raise InvalidRequest(f"{where}: expected [model, times], got {value!r:.200}")
    return FromModel(json_reader.text(value[0], where), _read_observed(value[1], where))


def _load(path: str, otherwise: Dict[str, List[FromModel]]) -> Dict[str, List[FromModel]]:
    """Read the file; return `otherwise` for one that is missing or unreadable: every measurement adds to it again."""
    read = json_reader.mapping(json_reader.sequence(_read_from_model, KEPT))
    try:
        with open(path) as stream:
            return {key: list(observed) for key, observed in read(json.load(stream), "references").items()}
    except FileNotFoundError:
        return otherwise
    except (OSError, ValueError, InvalidRequest) as error:
        logger.warning("%s cannot be read and is ignored: %s", path, error)
        return otherwise
