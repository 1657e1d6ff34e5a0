"""`vitsearch` for `chaos.py`: the plans of a list are trained, a measurement takes a moment, and so does a stage.

A short stage sleeps in its Ray worker and answers with what depends on its job alone: numbers of `FakeRunner`, and a
real ONNX file for the agents. `CHAOS_STAGES=real` leaves stages as they are.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitsearch import stages
from vitsearch.core.record import RunningTrial
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.search.acquisition import Prospect
from vitsearch.storage.files import Store
from vitsearch.storage.stage_cost import StageCost
from vitsearch.testing.fakes import FakeRunner, fake_accuracy, fake_cost_ms, fake_judged
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.base.onnx_writer import Value, model, node, tensor

STAGES, PLANS = "CHAOS_STAGES", "CHAOS_PLANS"
SLEEP_S = (0.1, 1.0)
WIDTH = 64


class ShortStages(FakeRunner):
    def _answer(self, job: stages.Job[Any]) -> object:
        match job:
            case stages.ScreenJob():
                return graph(job.workspace.scratch, job.spec.resolved, "")
            case stages.ProxyJob():
                accuracy = fake_accuracy(job.spec.resolved, trained=False)
                return stages.Evaluation(
                    {"accuracy": accuracy}, 1.0 - accuracy, 1000
                )  # far enough from the base to be trained
            case stages.ExportJob():
                resolved = job.spec.resolved
                answer = graph(job.workspace.store, resolved, str(job.checkpoint_sha256))
                accuracy = fake_accuracy(resolved, job.checkpoint_sha256 is not None)
                return stages.Exported(answer, fake_judged(accuracy), 1000)
        return super()._answer(job)


def graph(store: Store, resolved: ResolvedPlan, of: str) -> stages.ExportedGraph:
    """A model of one product, with weights that depend on what was resolved, and on the weights that it is of."""
    height, width = resolved.resolution.sides
    seed = int(digest([resolved.to_json(), of])[:8], 16)
    weights = np.random.default_rng(seed).standard_normal((WIDTH, WIDTH), dtype=np.float32)
    rows = (1, 3, height * width // WIDTH, WIDTH)
    shape = tensor("shape", "int64", (len(rows),), np.array(rows, np.int64).tobytes())
    graph_model = model(
        [node("Reshape", ["image", "shape"], "rows"), node("MatMul", ["rows", "weights"], "logits")],
        [Value("image", "float32", (1, 3, height, width))],
        [Value("logits", "float32", rows)],
        17,
        8,
        [tensor("weights", "float32", weights.shape, weights.tobytes()), shape],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph_model)
        return stages.ExportedGraph(
            store.put_model(path).sha256, len(graph_model), 100.0 * fake_cost_ms(resolved), 2.0, 0.0
        )


def _run_task_on(job: stages.Job[Any], resources: object, log: Path) -> tuple[object, StageCost]:
    """In a Ray worker, instead of the stage itself."""
    started_at, cpu = time.time(), time.process_time()
    time.sleep(random.uniform(*SLEEP_S))
    answer = ShortStages()._answer(job)
    took, spent = time.time() - started_at, time.process_time() - cpu
    return answer, StageCost(spent, {}, started_at, took, f"worker {os.getpid()}")


def make_stages_short() -> None:
    from vitsearch.workers.ray_runner import RayRunner

    runners: Any = RayRunner
    start = runners.__init__

    def started(runner: Any, *arguments: Any, **options: Any) -> None:
        start(runner, *arguments, **options)
        runner._run_task = runner._ray.remote(num_cpus=1, max_retries=0)(_run_task_on)

    runners.__init__ = started


def gain(_: object, trial: RunningTrial, *_front: object) -> float:
    """The plans of the list are trained, and what is trained is exported for its other deployments; nothing else is."""
    return 1.0 if trial.number < int(os.environ[PLANS]) or trial.rung else -1e9


def prospects(posterior: object, trials: Iterable[RunningTrial], *_: object) -> list[Prospect]:
    return [Prospect(trial, gain(posterior, trial), -1e9, -1e9) for trial in trials]


def train_the_list() -> None:
    from vitsearch.core.policy import POLICY
    from vitsearch.search import acquisition, run
    from vitsearch.search.session import Session

    training = replace(POLICY.training, least_gain=-1.0)
    policy = replace(POLICY, training=training, ending=replace(POLICY.ending, trials_without_gain=10**9))
    patched: Any = run
    patched.Session = partial(Session, policy=policy)
    patched = acquisition
    patched.expected_gain, patched.prospects = gain, prospects


def measure_for_a_moment() -> None:
    from vitsearch.devices import protocols
    from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

    patched: Any = protocols
    quick = ONE_PROCESS._replace(warmup_min_runs=10, warmup_min_s=0.0, min_runs=11, min_s=0.0)
    patched.SCREEN, patched.CONFIRM = quick._replace(id="screen-quick"), quick._replace(id="confirm-quick")


if __name__ == "__main__":
    import chaos_driver  # by its name, so that workers find what it gives them

    from vitsearch.cli.app import main

    chaos_driver.measure_for_a_moment()
    chaos_driver.train_the_list()
    if os.environ.get(STAGES) != "real":
        chaos_driver.make_stages_short()
    main()
