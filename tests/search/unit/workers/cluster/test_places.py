"""Which stages run at the same time."""

from __future__ import annotations

import asyncio

import pytest

from vitsearch.core.activity import Work, doing
from vitsearch.core.stage import Stage
from vitsearch.workers.cluster import places
from vitsearch.workers.cluster.places import WAITS, Places


class Stages:
    """Stages that each hold a place until they are ended."""

    def __init__(self, places):
        self._places = places
        self.running = {}
        self._ends = {}
        self._tasks = []

    async def start(self, name, stage):
        self._ends[name] = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._run(name, stage)))
        await turns()

    async def end(self, *names):
        for name in names or tuple(self._ends):
            self._ends[name].set()
        await turns()

    async def _run(self, name, stage):
        async with self._places.place(stage) as is_beside:
            self.running[name] = is_beside
            await self._ends[name].wait()
        del self.running[name]


async def turns():
    """Let all tasks do what they can do at once."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(places, "PATIENCE_S", 0.0)


def test_a_short_stage_gets_the_place_beside_trainers_that_all_train(impatient):
    async def search():
        stages = Stages(Places(2, has_extra=True))
        await stages.start("a", Stage.TRAIN)
        await stages.start("b", Stage.TRAIN)
        await stages.start("screen", Stage.SCREEN)
        await stages.start("another", Stage.PROXY)
        seen = dict(stages.running)
        await stages.end("screen")
        after = dict(stages.running)
        await stages.end()
        return seen, after

    assert asyncio.run(search()) == (
        {"a": False, "b": False, "screen": True},
        {"a": False, "b": False, "another": True},
    )


def test_a_long_stage_waits_for_a_trainer(impatient):
    async def search():
        stages = Stages(Places(1, has_extra=True))
        await stages.start("a", Stage.TRAIN)
        await stages.start("b", Stage.TRAIN_INT8)
        seen = list(stages.running)
        await stages.end("a")
        after = list(stages.running)
        await stages.end()
        return seen, after

    assert asyncio.run(search()) == (["a"], ["b"])


def test_a_short_stage_that_has_not_waited_long_takes_the_next_trainer():
    async def search():
        stages = Stages(Places(1, has_extra=True))
        await stages.start("a", Stage.TRAIN)
        await stages.start("screen", Stage.SCREEN)
        seen = list(stages.running)
        await stages.end("a")
        after = dict(stages.running)
        await stages.end()
        return seen, after

    assert asyncio.run(search()) == (["a"], {"screen": False})


def test_without_a_place_beside_them_all_wait_for_trainers(impatient):
    async def search():
        stages = Stages(Places(1, has_extra=False))
        await stages.start("a", Stage.TRAIN)
        await stages.start("screen", Stage.SCREEN)
        seen = list(stages.running)
        await stages.end("a")
        await stages.end()
        return seen

    assert asyncio.run(search()) == ["a"]


def test_work_says_that_it_waits_for_its_place():
    async def search():
        place, work = Places(1, has_extra=False), Work()
        async with place.place(Stage.TRAIN):
            with doing(work):
                waiting = asyncio.create_task(_pass(place))
            await turns()
            seen = work.activity.text
        await waiting
        return seen, work.activity.text

    assert asyncio.run(search()) == (WAITS, "")


async def _pass(place):
    async with place.place(Stage.SCREEN):
        pass
