"""The device that is this machine, beside another process that measures on it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from vitsearch.core.plan import Deployment
from vitsearch.devices import local_device
from vitsearch.devices.local_device import LocalDevice
from vitsearch_agent.base import locks
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.wire.protocol import SCREEN

DEPLOYMENT = Deployment("local", "noop", "cpu", "fp32", (("busy_us", 10),))
QUICK = SCREEN._replace(id="test", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.1)


@pytest.fixture
def lock():
    path = Path(locks.measuring_lock_path())
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.try_lock(str(path), "a model") as lock:
        yield lock


@pytest.mark.long
def test_it_notes_once_which_other_process_it_waits_for(lock, tmp_path, monkeypatch):
    monkeypatch.setattr(local_device, "LOOK_S", 0.05)
    (tmp_path / "model.onnx").write_bytes(b"a model")
    said = []

    def note(text):
        said.append(text)
        asyncio.get_running_loop().call_later(0.2, lock.close)

    with EmbeddedAgent(str(tmp_path / "agent")) as agent:
        device = LocalDevice("local", agent, "study", note, 0)
        measurement = asyncio.run(device.measure(tmp_path / "model.onnx", DEPLOYMENT, QUICK, repeat=0))
        device.close()
    assert measurement.latency_ms.n >= 11
    assert said == [f"waiting for pid {os.getpid()}, which measures a model; from now on they take turns"]
