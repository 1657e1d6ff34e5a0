"""The results of the other kinds of jobs: a model's accuracy on the device, and the device's own peaks."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.measure_protocol import Shapes, shapes_to_json
from vitsearch_agent.wire.result_fields import OF_A_MODEL, OF_EVERY_RESULT

_number = json_reader.number()
_share = json_reader.number(0.0, 1.0)
CELLS_MAX = 100000  # as many as images, of which no subset has more
NO_CLASS = -1
"""The predicted class of an image with a logit that is not finite."""
Cell = Tuple[int, int, int]
"""A class, the class that it was taken for, and the number of such images."""


def _cell(value: Any, where: str) -> Cell:
    cell = json_reader.sequence(json_reader.integer(NO_CLASS), 3)(value, where)
    if len(cell) != 3 or cell[0] < 0 or cell[2] < 1:
        raise InvalidRequest(f"{where}: expected a class, a predicted class and a number of images")
    return (cell[0], cell[1], cell[2])


read_confusion = json_reader.sequence(_cell, CELLS_MAX)


class AccuracyResult(NamedTuple):
    """The accuracy of an artifact on the device, on a validation subset.

    `images` and `labels` are the digests of the subset's files. In runs of `batch` images, the largest logit is the
    label's for `correct` of `n` images; an image with a logit that is not finite (`not_finite` images) counts as wrong.
    `confusion` has one cell for each pair of a class and a predicted class that occurs, sorted.
    `ci95_low` and `ci95_high` are the Wilson interval of the accuracy. `logits_sha256` is the digest of all logits:
    float32, little endian, `n` x `classes`, in C order. Two devices with the same digest gave the same bits.
    """

    job_id: str
    artifact: str
    images: str
    labels: str
    device_id: str
    environment_id: str
    runtime: str
    runtime_version: str
    options: Mapping[str, Any]
    batch: int
    shapes: Optional[Shapes]
    n: int
    correct: int
    not_finite: int
    classes: int
    confusion: Tuple[Cell, ...]
    ci95_low: float
    ci95_high: float
    logits_sha256: str
    attempts: int
    queue_s: float
    seconds: float
    cpu_seconds: float
    emulated: bool
    started_at: str

    @property
    def accuracy(self) -> float:
        return self.correct / self.n

    def to_json(self) -> Dict[str, Any]:
        shapes = None if self.shapes is None else shapes_to_json(self.shapes)
        cells = [list(cell) for cell in self.confusion]
        return dict(self._asdict(), options=dict(self.options), shapes=shapes, confusion=cells)

    @classmethod
    def from_json(cls, value: Any, where: str = "accuracy") -> "AccuracyResult":
        return cls(**json_reader.read_object(value, _ACCURACY, where))


_ACCURACY: Mapping[str, json_reader.Reader] = dict(
    OF_A_MODEL,
    images=json_reader.sha256,
    labels=json_reader.sha256,
    n=json_reader.integer(1),
    correct=json_reader.integer(),
    not_finite=json_reader.integer(),
    classes=json_reader.integer(1),
    confusion=read_confusion,
    ci95_low=_share,
    ci95_high=_share,
    logits_sha256=json_reader.sha256,
)


class Rate(NamedTuple):
    """A rate over `n` repeats: the best, which is the peak, and the median, which is typical."""

    best: float
    median: float
    n: int

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "rate") -> "Rate":
        return cls(**json_reader.read_object(value, _RATE, where))


_RATE = {"best": json_reader.number(0.0), "median": json_reader.number(0.0), "n": json_reader.integer(1)}


class Gemm(NamedTuple):
    """Speed of a runtime in multiplying two `size` x `size` matrices, in GFLOP/s (10^9 multiplications and additions
    per second; integer operations count the same)."""

    precision: str
    threads: int
    size: int
    gflops: Rate

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), gflops=self.gflops.to_json())

    @classmethod
    def from_json(cls, value: Any, where: str = "gemm") -> "Gemm":
        return cls(**json_reader.read_object(value, _GEMM, where))


_GEMM: Mapping[str, json_reader.Reader] = {
    "precision": json_reader.text,
    "threads": json_reader.integer(1),
    "size": json_reader.integer(1),
    "gflops": Rate.from_json,
}


class PeaksResult(NamedTuple):
    """The peaks of a device, for a roofline: the limits that no model exceeds there.

    `gemm` has one entry for each precision and number of threads that could be measured. `reasons` explains the
    missing precisions (`int8`: ...), and a `temperature_c` or `wait_over_cpu` that is None. `copy_gb_per_s` is
    memory traffic (10^9 bytes per second, reads plus writes) of one thread that copies `copy_bytes` at a time.
    `wait_over_cpu` is as in Contention: above a few percent, other processes ran and the real peaks are higher.
    """

    job_id: str
    device_id: str
    environment_id: str
    runtime: str
    runtime_version: Optional[str]
    options: Mapping[str, Any]
    gemm: Tuple[Gemm, ...]
    copy_gb_per_s: Rate
    copy_bytes: int
    temperature_c: Optional[float]
    wait_over_cpu: Optional[float]
    reasons: Mapping[str, str]
    attempts: int
    queue_s: float
    seconds: float
    cpu_seconds: float
    emulated: bool
    started_at: str

    def to_json(self) -> Dict[str, Any]:
        return dict(
            self._asdict(),
            options=dict(self.options),
            gemm=[rate.to_json() for rate in self.gemm],
            copy_gb_per_s=self.copy_gb_per_s.to_json(),
            reasons=dict(self.reasons),
        )

    @classmethod
    def from_json(cls, value: Any, where: str = "peaks") -> "PeaksResult":
        return cls(**json_reader.read_object(value, _PEAKS, where))


_PEAKS: Mapping[str, json_reader.Reader] = dict(
    OF_EVERY_RESULT,
    runtime_version=json_reader.optional(json_reader.text),
    gemm=json_reader.sequence(Gemm.from_json, 64),
    copy_gb_per_s=Rate.from_json,
    copy_bytes=json_reader.integer(1),
    temperature_c=json_reader.optional(_number),
    wait_over_cpu=json_reader.optional(_number),
    reasons=json_reader.mapping(json_reader.text),
)
