"""Public fakes at the two boundaries of a run, for tests and benchmarks of everything between them.

`FakeRunner` answers each stage at once with numbers that depend only on the plan. `FakeDevice` reads the cost out
of the file that FakeRunner "exported". The numbers are made up and marked `emulated`: they describe no real model.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from vitsearch import stages
from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.keys import DataIdentity
from vitsearch.core.plan import Deployment, Recipe
from vitsearch.core.preprocessing import HALF
from vitsearch.core.record import Shipped
from vitsearch.core.resolve import BlockShape, BlockStructure, ResolvedPlan, Scores
from vitsearch.core.stage import Stage
from vitsearch.devices.agent_device import Device, DeviceOutputs, Outage
from vitsearch.devices.connection import DEADLINE_S
from vitsearch.pipeline.config import StageConfig
from vitsearch.stages import Job, R_co
from vitsearch.storage.files import Store
from vitsearch.storage.stage_cost import StageCost
from vitsearch.tasks import Judged
from vitsearch.tasks.classification.confusion import Confusion
from vitsearch.tasks.classification.task import judged_counts
from vitsearch_agent.wire.measurement import PAIRED, RAW
from vitsearch_agent.wire.paired import Paired, Ratio, ReferenceTimes
from vitsearch_agent.wire.protocol import (
    CONFIRM,
    REDUCTIONS,
    Contention,
    DeviceInfo,
    Latency,
    Measurement,
    MeasureProtocol,
    OutputsResult,
    Part,
    Power,
)

BLOCKS, HEADS, FFN = 6, 6, 768
DIGEST = "ab" * 32
SIZE = ImageSize.square(28)
START = datetime(2026, 1, 1)
DATA: dict[str, Any] = {
    "fingerprint": "cd" * 32,
    "class_names": [f"class {number}" for number in range(10)],
    "image_size": 28,
    "channels": 1,
    "mean": [0.5],
    "std": [0.25],
    "holdout_images": 100,
    "splits": {name: {"images": 1000, "sha256": "ef" * 32} for name in ("train", "validation")},
}


def fake_block_structure() -> tuple[BlockStructure, Scores]:
    blocks = tuple(BlockShape(f"blocks.{i}", HEADS, 32, FFN) for i in range(BLOCKS))
    heads = tuple(tuple(1.0 + (7 * i + 3 * j) % 11 for j in range(HEADS)) for i in range(BLOCKS))
    ffn = tuple(tuple(1.0 + (5 * i + 13 * j) % 97 for j in range(FFN)) for i in range(BLOCKS))
    return BlockStructure("fake_vit", SIZE, 192, 50, blocks), Scores(heads, ffn)


def fake_stage_config() -> StageConfig:
    """The stages' configuration for the fake data and the fake backbone."""
    return StageConfig(
        data=DataIdentity(DATA["fingerprint"], len(DATA["class_names"]), DATA["channels"]),
        base_recipe=Recipe((0, 1), 64, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0),
        teacher=None,
        base_resolution=lambda backbone: SIZE,
        starting_digest=lambda source: "ef" * 32,
        preprocessing=lambda backbone, weights, keys: keys.over(HALF, DATA["channels"]),
        calibration_images=16,
        quantization_images=8,
        seed=0,
    )


def share(resolved: ResolvedPlan) -> tuple[float, float]:
    """Shares of heads and FFN channels that are kept."""
    heads = sum(len(block.heads) for block in resolved.blocks) / (BLOCKS * HEADS)
    ffn = sum(len(block.ffn) for block in resolved.blocks) / (BLOCKS * FFN)
    return heads, ffn


def fake_cost_ms(resolved: ResolvedPlan) -> float:
    heads, ffn = share(resolved)
    quantized = 1.0 if resolved.precision == "fp32" else 0.42
    return (0.4 + 1.2 * heads + 2.0 * ffn) * quantized * resolved.resolution.side / 28


def fake_shares(resolved: ResolvedPlan) -> dict[str, float]:
    """Shares of the MACs by precision: all but the products of attention are quantized."""
    return {"fp32": 1.0} if resolved.precision == "fp32" else {"int8": 0.96, "fp32": 0.04}


def fake_accuracy(resolved: ResolvedPlan, trained: bool) -> float:
    heads, ffn = share(resolved)
    lost = 0.12 * (1 - heads) ** 2 + 0.05 * (1 - ffn) ** 2 + 0.02 * (1 - resolved.resolution.side / 28)
    return 0.89 - lost * (0.5 if trained else 1.0)


def fake_confusion(accuracy: float, images: int = 1000) -> Confusion:
    """Counts of images of ten equal classes; a wrong answer is the next class."""
    correct = round(accuracy * images)
    right = [correct // 10 + (label < correct % 10) for label in range(10)]
    cells = [(label, label, right[label]) for label in range(10)]
    cells += [(label, (label + 1) % 10, images // 10 - right[label]) for label in range(10)]
    return Confusion(tuple(sorted(cell for cell in cells if cell[2])))


def fake_judged(accuracy: float, images: int = 1000) -> Judged:
    """What classification makes of such counts."""
    return judged_counts(fake_confusion(accuracy, images), DATA["class_names"])


@dataclass
class FakeRunner:
    """Makes each stage at once, with numbers that depend on the plan alone.

    Attributes:
        before: Is called first and may raise: a fault to inject.
        cost: What a stage is said to have cost.
        runs: Counts the stages.
    """

    before: Callable[[Job[Any]], None] = lambda job: None
    cost: Callable[[Job[Any]], StageCost] = lambda job: StageCost(0.0)
    runs: Counter[Stage] = field(default_factory=Counter)

    async def run(self, job: Job[R_co]) -> tuple[R_co, StageCost]:
        self.before(job)
        self.runs[job.stage] += 1
        return cast(R_co, self._answer(job)), self.cost(job)

    def close(self) -> None:
        pass

    def _answer(self, job: Job[Any]) -> object:
        match job:
            case stages.DataJob():
                return stages.DataReady(DATA)
            case stages.BaseJob():
                return stages.Base(
                    _stored(job.workspace.store, {"base": job.source.backbone}), fake_judged(0.89).values, 1000
                )
            case stages.BlockStructureJob():
                block_structure, scores = fake_block_structure()
                statistics = _stored(job.workspace.store, {"statistics": job.source.resolution.to_json()})
                return stages.BlockStructureFound(block_structure.to_json(), scores.to_json(), statistics)
            case stages.SubsetJob():
                return stages.Stored(_subset(job.workspace.store, job), 1)
            case stages.SensitivityJob():
                sensitivity = {f"blocks.{i}.mlp.fc{j}": 0.1 * (i == 2) + 0.001 for i in range(BLOCKS) for j in (1, 2)}
                return stages.Stored(_stored(job.workspace.store, sensitivity), 1)
            case stages.LogitsJob():
                return stages.Stored(_stored(job.workspace.store, {"logits": job.images}), 1)
            case stages.ScreenJob():
                return _graph(job.workspace.scratch, job.spec.resolved, {})
            case stages.ProxyJob():
                accuracy = fake_accuracy(job.spec.resolved, trained=False)
                qualities = fake_judged(accuracy).values | {"accuracy": accuracy}
                return stages.Evaluation(qualities, (0.89 - accuracy) * 10, DATA["holdout_images"])
            case stages.TrainJob():
                accuracy = fake_accuracy(job.spec.resolved, trained=True)
                checkpoint = _stored(job.workspace.store, {"trained": job.spec.resolved.to_json(), "to": job.end})
                qualities = fake_judged(accuracy).values | {"accuracy": accuracy}
                evaluation = stages.Evaluation(qualities, 0.1, DATA["holdout_images"])
                return stages.Trained(evaluation, checkpoint, 10, kept="last")
            case stages.ExportJob():
                resolved = job.spec.resolved
                graph = _graph(job.workspace.store, resolved, {"of": resolved.to_json()})
                accuracy = fake_accuracy(resolved, job.checkpoint_sha256 is not None)
                return stages.Exported(graph, fake_judged(accuracy), 1000, shares=fake_shares(resolved))
            case stages.ShipJob():
                judged = fake_judged(0.88)
                figures = Metrics(judged.figures)
                store = job.workspace.store
                outputs = _stored_array(store, np.eye(10, dtype=np.float32)[[0, 2]])
                licences: dict[str, str | None] = {"weights": None, "data": None}
                images = _two_images(store)
                on_images = Metrics(judged_counts(Confusion.of([0, 1], [0, 2]), DATA["class_names"]).figures)
                split = "test", "12" * 32, 1000
                return Shipped(
                    *split,
                    figures,
                    judged.tally,
                    images,
                    1,
                    on_images,
                    outputs,
                    (0, 1),
                    None,
                    None,
                    licences,
                    job.batch,
                )
        raise AssertionError(f"no answer for {job.stage}")


def _stored(store: Store, value: object) -> str:
    with _written(value) as path:
        return store.put(path)


def _two_images(store: Store) -> str:
    return _stored_array(store, np.zeros((2, 28, 28, 1), np.uint8))


def _subset(store: Store, job: stages.SubsetJob) -> str:
    """Images of one pixel, or labels: those of ten classes in turn."""
    labels = np.arange(job.images, dtype="<i8") % len(DATA["class_names"])
    if job.view is None:
        return _stored_array(store, labels)
    return _stored_array(store, np.full((job.images, 1, 1, 1), job.view.resolution.side, "<f4"))


def _stored_array(store: Store, values: npt.NDArray[Any]) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "array.npy"
        np.save(path, values)
        return store.put(path)


def _graph(store: Store, resolved: ResolvedPlan, more: dict[str, object]) -> stages.ExportedGraph:
    with _written({"cost_ms": fake_cost_ms(resolved)} | more) as path:
        return stages.ExportedGraph(store.put_model(path).sha256, 1000, 100.0, 2.0, 0.0)


@contextmanager
def _written(value: object) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_text(json.dumps(value, sort_keys=True))
        yield path


@dataclass
class FakeDevice:
    """Measures the cost that `FakeRunner` wrote into a file, each time two minutes after the time before.

    Attributes:
        name: As the space file names it.
        basis: What its medians are; `paired` beside references.
        parallel: Measurements that it takes at the same time.
        before: Is called first with the file and may raise: a fault to inject.
        measured: Counts the measurements by protocol, and those of `outputs`.
        outage: Since when it is away; None while it answers.
        deadline_s: Seconds after which a run gives up on it.
        queue: Who is served first; None for nobody.
        adopted: Counts the calls of `adopt`.
        info: What it says of itself.
    """

    name: str = "local"
    basis: str = RAW
    parallel: int = 1
    before: Callable[[Path], None] = lambda path: None
    measured: Counter[str] = field(default_factory=Counter)
    outage: Outage | None = None
    deadline_s: float = DEADLINE_S
    queue: str | None = None
    adopted: int = 0
    info: DeviceInfo = DeviceInfo(3, 3, "0", "fake", "fake", "0" * 64, {}, (), ("measure",), 1, 0, 0)

    @property
    def devices(self) -> tuple[Device, ...]:
        return (self,)

    def adopt(self) -> None:
        self.adopted += 1

    async def outputs(self, artifact: Path, images: Path, deployment: Deployment, reduction: str) -> DeviceOutputs:
        """Give image after image the next of ten classes, but every tenth one its neighbour's: so nine of ten of the
        images that `FakeRunner` makes are right.

        Args:
            artifact: The file.
            images: Their number is read, nothing else.
            deployment: Its runtime is the one that the result names.
            reduction: One of those of an argmax.

        Returns:
            Classes, with a result that is marked `emulated`.
        """
        self.before(artifact)
        self.measured["outputs"] += 1
        n, kept = len(np.load(images, mmap_mode="r")), REDUCTIONS[reduction]
        values = np.arange(n) % 10
        values[9::10] = 0
        result = OutputsResult(
            job_id="0" * 64,
            artifact=DIGEST,
            images=DIGEST,
            device_id=self.info.device_id,
            environment_id=self.info.environment_id,
            runtime=deployment.runtime,
            runtime_version="0",
            reduction=reduction,
            options={},
            batch=1,
            shapes={},
            n=n,
            item_shape=(),
            dtype=kept.dtype,
            not_finite=0,
            parts=(Part(DIGEST, n * kept.itemsize),),
            attempts=1,
            queue_s=0.0,
            seconds=1.0,
            cpu_seconds=1.0,
            emulated=True,
            started_at="2026-01-01T00:00:00Z",
        )
        return DeviceOutputs(result, values.astype(kept.dtype))

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        self.before(artifact)
        self.measured[protocol.id] += 1
        cost_ms = float(json.loads(artifact.read_text())["cost_ms"])
        where: dict[str, Any] = {"device_id": self.info.device_id, "environment_id": self.info.environment_id}
        where["started_at"] = f"{START + self.measured.total() * timedelta(minutes=2):%Y-%m-%dT%H:%M:%SZ}"
        if self.basis == PAIRED:
            where |= {"basis": PAIRED, "paired": fake_ratio(cost_ms)}
        return fake_measurement(cost_ms, protocol, runtime=deployment.runtime, **where)

    async def waits_in_queue(self) -> str | None:
        return self.queue

    def close(self) -> None:
        pass


def fake_times(ms: float, half: float = 1e-4) -> Latency:
    """A thousand runs that all took `ms`, with an interval of `half` on either side."""
    return Latency(1000, ms, ms, ms, ms, ms, ms, ms, ms * (1.0 - half), ms * (1.0 + half))


def fake_ratio(ms: float, half: float = 1e-4) -> Paired:
    """`ms` beside references that take one each, with an interval of `half` on either side."""
    times = ReferenceTimes(1.0, 1.0, 1.0, 1.0, processes=5, provisional=False)
    return Paired(DIGEST, Ratio(ms, 0.0, 0.0, half, 1.0), None, times)


def fake_measurement(cost_ms: float, protocol: MeasureProtocol = CONFIRM, **changes: Any) -> Measurement:
    """Make a measurement whose figures follow from one number.

    Args:
        cost_ms: The median latency.
        protocol: The protocol that it is said to follow.
        **changes: Fields of `Measurement` to replace.

    Returns:
        A measurement that is marked `emulated`.
    """
    power = Power(4.0, 2.0, 4.0 * cost_ms, 2.0 * cost_ms, "fake", "module", False, 10.0, 100, 0.01)
    plain = Measurement(
        job_id="0" * 64,
        artifact=DIGEST,
        device_id="fake",
        environment_id="0" * 64,
        protocol=protocol,
        runtime="onnxruntime",
        runtime_version="0",
        options={},
        batch=1,
        shapes={},
        latency_ms=fake_times(cost_ms),
        cpu_ms=fake_times(cost_ms),
        load_ms=1.0,
        first_inference_ms=cost_ms,
        throughput_ips=protocol.streams * 1000.0 / cost_ms,
        peak_memory_mb=10.0,
        runtime_baseline_mb=1.0,
        gpu_memory_mb=None,
        between_process_rel_spread=None,
        sustained=fake_times(1.5 * cost_ms) if protocol.soak_s else None,
        concurrent=fake_times(1.2 * cost_ms) if protocol.throughput_s else None,
        temperature=None,
        power=power if protocol.power_s else None,
        swap_mb=None,
        contention=Contention(0.0, 1.0),
        basis=RAW,
        processes=protocol.processes,
        paired=None,
        counters=None,
        flags=(),
        reasons={"power": "a fake has no meter"},
        attempts=1,
        queue_s=0.0,
        seconds=0.0,
        cpu_seconds=0.0,
        emulated=True,
        started_at="2026-01-01T00:00:00Z",
    )
    return plain._replace(**changes)
