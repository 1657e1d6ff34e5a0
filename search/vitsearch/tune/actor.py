"""The class that Tune runs: one actor for each trial, a checkpoint of some bytes, one rung for each step."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray import tune

from vitsearch.errors import PlanError
from vitsearch.space import SearchSpace
from vitsearch.tune.knobs import ConfigSpace
from vitsearch.tune.rungs import RungTrial, opened, unmeasured
from vitsearch.workers.cluster.resources import Resources, gpus_of
from vitsearch.workers.ray_runner import configure_ray

CHECKPOINT = "rungs.json"


class RungTrainable(tune.Trainable):  # type: ignore[misc]  # ray has no types
    """A plan of `space`; paths are relative to `folder`.

    Weights, files and measurements are in the database and the store of the study, where every node finds them. So a
    checkpoint holds the plan and how many rungs were reported; rungs that a killed trial had finished are looked up.
    No method is a coroutine: Ray would run all of them in an event loop of its own.
    """

    space: ClassVar[SearchSpace]
    folder: ClassVar[str]

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """`resources` of the space file; with `gpus: auto` one GPU where the cluster has any."""
        wanted = cls.space.resources
        gpus = gpus_of(Resources(1, wanted.cpus, wanted.gpus), ray.cluster_resources().get("GPU", 0.0))
        return tune.PlacementGroupFactory([{"CPU": float(wanted.cpus)} | ({"GPU": gpus} if gpus else {})])

    def setup(self, config: dict[str, Any]) -> None:
        configure_ray()  # among others, for the libraries of this process: no telemetry
        if not ray.get_gpu_ids():
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.chdir(self.folder)
        self._steps = 0
        self._asyncio = asyncio.Runner()
        self._closing = AsyncExitStack()
        self._trial: RungTrial | None = None
        self._problem = ""
        self._plan: dict[str, Any] | None = None
        try:
            self._plan = ConfigSpace(self.space).plan(config).to_json()
        except PlanError as error:
            self._problem = str(error)

    def step(self) -> dict[str, Any]:
        if self._problem:
            return unmeasured(self.space) | {"done": True, "outcome": "invalid", "reason": self._problem}
        if self._trial is None:
            self._trial = self._asyncio.run(self._closing.enter_async_context(opened(self.space, self.config)))
        result = self._asyncio.run(self._trial.step(self._steps))
        self._steps += 1
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, CHECKPOINT).write_text(json.dumps({"plan": self._plan, "steps": self._steps}))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Rungs of another plan do not count: population-based schedulers exchange configs."""
        saved = json.loads(Path(checkpoint_dir, CHECKPOINT).read_text())
        self._steps = saved["steps"] if self._plan is not None and saved["plan"] == self._plan else 0

    def cleanup(self) -> None:
        self._asyncio.run(self._closing.aclose())
        self._asyncio.close()


def trainable_of(space: SearchSpace, folder: str) -> type[RungTrainable]:
    """The class for one space; its name is that of the experiment."""
    return type(space.study, (RungTrainable,), {"space": space, "folder": folder})
