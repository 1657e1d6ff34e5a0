"""A Ray cluster whose head is gone."""

from __future__ import annotations

import asyncio

import pytest

from vitsearch.core.activity import Work, doing
from vitsearch.errors import WorkersLost
from vitsearch.workers.cluster import head
from vitsearch.workers.cluster.head import ClusterHead


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(head, "LOOK_S", 0.01)
    monkeypatch.setattr(head, "LOST_S", 0.2)


async def _answer(reader, writer):
    writer.close()


def test_a_head_that_is_gone_is_named_with_how_to_resume_and_meanwhile_awaited():
    async def lose_it():
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        with doing(Work()) as work:
            watching = asyncio.ensure_future(ClusterHead(f"{host}:{port}").watch())
        await asyncio.sleep(0.05)
        assert not watching.done()
        assert work.activity.awaits is None
        server.close()
        await server.wait_closed()
        while work.activity.awaits is None:
            await asyncio.sleep(0.01)
        assert work.activity.awaits.startswith(f"waits for the head of the Ray cluster at {host}:{port}, 0 s so far: ")
        await watching

    with pytest.raises(
        WorkersLost, match=r"head of the Ray cluster at 127.0.0.1:\d+ is lost \(.*'vitsearch run FILE', res"
    ):
        asyncio.run(lose_it())


def test_a_head_that_comes_back_in_time_is_kept(monkeypatch):
    monkeypatch.setattr(head, "LOST_S", 60.0)

    async def come_back():
        server = await asyncio.start_server(_answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        server.close()
        await server.wait_closed()
        with doing(Work()) as work:
            watching = asyncio.ensure_future(ClusterHead(f"{host}:{port}").watch())
        while work.activity.awaits is None:
            await asyncio.sleep(0.01)
        server = await asyncio.start_server(_answer, host, port)
        while work.activity.awaits is not None:
            await asyncio.sleep(0.01)
        assert not watching.done()
        watching.cancel()
        server.close()

    asyncio.run(come_back())
