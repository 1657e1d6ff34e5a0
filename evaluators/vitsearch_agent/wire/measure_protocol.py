"""How a measurement is taken: the protocol, its limits, and the ones that vitsearch uses."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import InvalidRequest

MINIMUM_RUNS = 11
"""The fewest runs whose median may be reported (early stopping at 99 % confidence)."""

MOST_RUNS = 10000
"""The most timed runs of one process; its sampling ends there, so that its answer stays small."""

MAX_PROCESSES = 32


Shapes = Mapping[str, Tuple[int, ...]]
"""Input -> its sizes."""


class MeasureProtocol(NamedTuple):
    """How one measurement is taken. Equal protocols give comparable numbers.

    Each process warms up until it has done `warmup_min_runs` runs in at least `warmup_min_s` seconds and its
    times are steady (or ten times `warmup_min_s` more seconds have passed; beside references five times). Then it
    samples in bursts until it has `min_runs` runs and `min_s` seconds; it ends after `max_s` seconds of sampling if it
    has at least 11 runs by then.
    Within a burst the model alternates with the reference models whose digest is `reference` (None: with none). A
    process that runs longer than `timeout_s` seconds, plus the set duration of its phase, is killed and the measurement
    fails as `timeout`.

    The measurement starts with `processes` processes. Further ones follow, up to `max_processes`, while the 95 %
    interval is wider than `target_rel_half_width` of the median on either side and fewer than `budget_s` seconds have
    passed.

    The other phases run in further processes if their seconds are not 0: `throughput_s` with `streams` inferences
    at a time; `soak_s` of load before samples without a pause (`sustained`); `power_s` of load between two rests of
    `idle_s` while the meter is read.
    Before the first process the device cools down to `start_max_c` degrees (None: it does not wait); before each
    further process, to 3 C above the temperature at which the first one started. It waits at most `cooldown_max_s`
    seconds each time.

    `batch` is the number of images in a run: only an open first dimension takes it. None is the model's own batch, 1
    if that is open. `shapes` (input -> its sizes) are the shapes of inputs that have other open dimensions.
    """

    id: str
    warmup_min_runs: int
    warmup_min_s: float
    min_runs: int
    min_s: float
    max_s: float
    timeout_s: float
    processes: int
    max_processes: int
    target_rel_half_width: float
    budget_s: float
    threads: int
    batch: Optional[int] = None
    reference: Optional[str] = None
    throughput_s: float = 0.0
    streams: int = 1
    soak_s: float = 0.0
    power_s: float = 0.0
    idle_s: float = 0.0
    start_max_c: Optional[float] = None
    cooldown_max_s: float = 0.0
    shapes: Shapes = {}

    def to_json(self) -> Dict[str, Any]:
        """Return the JSON without what is not requested."""
        requested = {key: value for key, value in self._asdict().items() if value != _NOT_REQUESTED.get(key, ...)}
        # 2 and 2.0 seconds are the same protocol and must have the same job id.
        requested = {key: float(value) if key.endswith(_REAL) else value for key, value in requested.items()}
        return dict(requested, shapes=shapes_to_json(self.shapes)) if self.shapes else requested

    @classmethod
    def from_json(cls, value: Any, where: str = "protocol") -> "MeasureProtocol":
        protocol = cls(**json_reader.read_object(value, _PROTOCOL, where, _NOT_REQUESTED))
        if protocol.max_processes < protocol.processes:
            raise InvalidRequest(
                f"{where}.max_processes: {protocol.max_processes} is less than the {protocol.processes} processes that "
                "every measurement has"
            )
        return protocol


_REAL = ("_s", "_c", "_width")
"""Endings of the keys whose values are real numbers."""

read_shapes = json_reader.mapping(json_reader.sequence(json_reader.integer(1, 2**31 - 1), 16))


def shapes_to_json(shapes: Shapes) -> Dict[str, Any]:
    return {name: list(sizes) for name, sizes in shapes.items()}


_PROTOCOL = {
    "id": json_reader.text,
    "warmup_min_runs": json_reader.integer(0, 10000),
    "warmup_min_s": json_reader.number(0, 600),
    "min_runs": json_reader.integer(MINIMUM_RUNS, 5000),
    "min_s": json_reader.number(0, 3600),
    "max_s": json_reader.number(0, 3600),
    "timeout_s": json_reader.number(0.1, 7200),
    "processes": json_reader.integer(1, MAX_PROCESSES),
    "max_processes": json_reader.integer(1, MAX_PROCESSES),
    "target_rel_half_width": json_reader.number(0, 1),
    "budget_s": json_reader.number(0, 7200),
    "threads": json_reader.integer(1, 256),
    "batch": json_reader.optional(json_reader.integer(1, 4096)),
    "reference": json_reader.optional(json_reader.sha256),
    "throughput_s": json_reader.number(0, 3600),
    "streams": json_reader.integer(1, 256),
    "soak_s": json_reader.number(0, 7200),
    "power_s": json_reader.number(0, 3600),
    "idle_s": json_reader.number(0, 600),
    "start_max_c": json_reader.optional(json_reader.number(-40, 150)),
    "cooldown_max_s": json_reader.number(0, 3600),
    "shapes": read_shapes,
}
_NOT_REQUESTED: Dict[str, Any] = {
    "batch": None,
    "reference": None,
    "throughput_s": 0.0,
    "streams": 1,
    "soak_s": 0.0,
    "power_s": 0.0,
    "idle_s": 0.0,
    "start_max_c": None,
    "cooldown_max_s": 0.0,
    "shapes": {},
}

REFERENCE = "8bd336cfcf8070cc55c6c14099ed47355097aa543cea860f9bd9dfbcadcf10bf"
"""The digest of the reference models of this version (`runtimes.reference_models`)."""

SCREEN = MeasureProtocol(
    id="screen-1",
    warmup_min_runs=20,
    warmup_min_s=0.1,
    min_runs=24,
    min_s=1.0,
    max_s=60.0,
    timeout_s=180.0,
    processes=2,
    max_processes=5,
    target_rel_half_width=0.08,
    budget_s=10.0,
    threads=1,
    reference=REFERENCE,
)
"""For every model: two processes of two bursts, up to five while the interval is wide."""

CONFIRM = SCREEN._replace(
    id="confirm-1",
    min_runs=36,
    min_s=1.6,
    timeout_s=300.0,
    processes=5,
    max_processes=10,
    target_rel_half_width=0.02,
    budget_s=20.0,
)
"""For candidates of the front: five processes of three bursts, up to ten while the interval is wide."""

# For what is not compared with other models.
ONE_PROCESS = SCREEN._replace(processes=1, max_processes=1, reference=None)
# The batch is that of SCREEN and CONFIRM: activations that are quantized at run time share one scale in a batch.
OUTPUTS = ONE_PROCESS._replace(id="outputs-1", timeout_s=3600.0)
PEAKS = ONE_PROCESS._replace(id="peaks-1", min_s=1.0)
PROTOCOLS = {"screen": SCREEN, "confirm": CONFIRM}
