"""The results of the other kinds of jobs: a model's outputs on the device, and the device's own peaks."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.measure_protocol import Shapes, shapes_to_json
from vitsearch_agent.wire.reductions import REDUCTIONS
from vitsearch_agent.wire.result_fields import OF_A_MODEL, OF_EVERY_RESULT

_number = json_reader.number()

OUTPUTS_MAX_BYTES = 256 << 20
"""The most bytes that the outputs of one job may have."""
PART_MAX_BYTES = 8 << 20
"""The size of each part of them but the last. A part is small enough to be kept in memory, to have its digest compared
before it is written, and to be sent again."""
DIMENSIONS_MAX = 8
"""The most axes of what is kept of one image."""


class Part(NamedTuple):
    """A part of the outputs of a job: its content and its size in bytes."""

    sha256: str
    size: int

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "part") -> "Part":
        return cls(**json_reader.read_object(value, _PART, where))


_PART = {"sha256": json_reader.sha256, "size": json_reader.integer(1, PART_MAX_BYTES)}


class OutputsResult(NamedTuple):
    """What an artifact gives on the device for `n` images, in runs of `batch` images.

    `images` is the digest of their file. `reduction` is the name of what was kept of the outputs (`reductions`):
    numbers of type `dtype`, as NumPy writes it, `item_shape` of each image, in C order. `parts` are these bytes, cut
    after each `PART_MAX_BYTES`. Of `not_finite` images an output is not finite. Two devices with the same digests gave
    the same bits.
    """

    job_id: str
    artifact: str
    images: str
    device_id: str
    environment_id: str
    runtime: str
    runtime_version: str
    reduction: str
    options: Mapping[str, Any]
    batch: int
    shapes: Optional[Shapes]
    n: int
    item_shape: Tuple[int, ...]
    dtype: str
    not_finite: int
    parts: Tuple[Part, ...]
    attempts: int
    queue_s: float
    seconds: float
    cpu_seconds: float
    emulated: bool
    started_at: str

    @property
    def shape(self) -> Tuple[int, ...]:
        """The shape of the array of all outputs."""
        return (self.n,) + self.item_shape

    def to_json(self) -> Dict[str, Any]:
        shapes = None if self.shapes is None else shapes_to_json(self.shapes)
        parts = [part.to_json() for part in self.parts]
        return dict(
            self._asdict(), options=dict(self.options), shapes=shapes, item_shape=list(self.item_shape), parts=parts
        )

    @classmethod
    def from_json(cls, value: Any, where: str = "outputs") -> "OutputsResult":
        result = cls(**json_reader.read_object(value, _OUTPUTS, where))
        reduction = REDUCTIONS[result.reduction]
        if result.dtype != reduction.dtype:
            raise InvalidRequest(f"{where}.dtype: {result.reduction} keeps {reduction.dtype}, not {result.dtype}")
        if result.not_finite > result.n:
            raise InvalidRequest(f"{where}.not_finite: {result.not_finite} of {result.n} images")
        sizes = part_sizes(bytes_of(result.shape, reduction.itemsize))
        if [part.size for part in result.parts] != sizes:
            raise InvalidRequest(f"{where}.parts: not the sizes of {result.dtype} of shape {result.shape}")
        return result


def bytes_of(shape: Tuple[int, ...], itemsize: int) -> int:
    """Return the bytes of an array."""
    size = itemsize
    for length in shape:
        size *= length
    return size


def part_sizes(size: int) -> List[int]:
    """Return the size of each part of `size` bytes of outputs; InvalidRequest for more than a job may have."""
    if size > OUTPUTS_MAX_BYTES:
        raise InvalidRequest(f"outputs of {size} bytes, allowed are {OUTPUTS_MAX_BYTES}")
    whole, rest = divmod(size, PART_MAX_BYTES)
    return [PART_MAX_BYTES] * whole + [rest] * bool(rest)


read_item_shape = json_reader.sequence(json_reader.integer(1, 2**31 - 1), DIMENSIONS_MAX)
_OUTPUTS: Mapping[str, json_reader.Reader] = dict(
    OF_A_MODEL,
    images=json_reader.sha256,
    reduction=json_reader.one_of(*REDUCTIONS),
    n=json_reader.integer(1),
    item_shape=read_item_shape,
    dtype=json_reader.text,
    not_finite=json_reader.integer(),
    parts=json_reader.sequence(Part.from_json, OUTPUTS_MAX_BYTES // PART_MAX_BYTES),
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
