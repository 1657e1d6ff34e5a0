"""Three ways in which one name gets two devices, with real agents that read the hardware of recorded boards."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.core.plan import Deployment
from vitsearch.devices.token_destinations import remember_destinations
from vitsearch.errors import ResourceError, StudyError
from vitsearch.search.open_device import connected, cores_kept_free, open_device
from vitsearch.search.study_folders import StudyFolders
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.study.study import Study
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.wire.protocol import SCREEN

QUICK = SCREEN._replace(id="test", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.1)
MODEL = "model.onnx"


def install(state: Path, serial: str, host: str) -> None:
    """Put the agent's state on a board, which is emulated by what it says of itself."""
    tree = DeviceTree(str(state.parent / f"{state.name}-tree"))
    tree.write("/proc/device-tree/model", "NVIDIA Jetson Nano\0")
    tree.write("/proc/device-tree/serial-number", serial + "\0")
    tree.write("/proc/sys/kernel/hostname", host)
    state.mkdir(parents=True, exist_ok=True)
    (state / "config.json").write_text(json.dumps({"emulation": {"slowdown": 2.0, "root": tree.root}}))


@pytest.fixture
def model(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "w"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor("w", TensorProto.FLOAT, [8, 8], np.full(64, 0.5))],
    )
    path = tmp_path / MODEL
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def asked(space, devices=None):
    return SearchSpace.from_json(space.to_json() | {"devices": devices or {}})


@contextmanager
def opened(space):
    """The study and its device, as a run opens them."""
    remember_destinations(space.devices, os.environ)
    with (
        closing(Study.open(space)) as study,
        cores_kept_free(space) as cores,
        open_device(study, space, cores, print) as device,
    ):
        yield study, device


def measured(space, model):
    """A measurement of the model by one run of the study."""
    Ledger.open(space.storage).close()
    with opened(space) as (_, device):
        (board,) = device.devices
        deployment = Deployment(board.name, "onnxruntime", "cpu", "fp32")
        return asyncio.run(board.measure(model, deployment, QUICK, repeat=0))


@pytest.fixture
def on_agent(space, monkeypatch):
    """The space with the agent on a state folder, under the name nano."""

    @contextmanager
    def on_agent(state):
        with EmbeddedAgent(str(state)) as agent:
            monkeypatch.setenv("VITSEARCH_NANO_TOKEN", agent.token)
            yield asked(space, {"nano": {"url": agent.url, "token": "env:VITSEARCH_NANO_TOKEN"}})

    return on_agent


@pytest.mark.long
def test_a_cloned_state_folder_on_other_hardware_is_another_device(on_agent, model, tmp_path):
    card, clone = tmp_path / "card", tmp_path / "clone"
    install(card, "1421820011111", "jetson-a")
    with on_agent(card) as space:
        measured(space, model)
    shutil.copytree(card, clone)
    install(clone, "1421820022222", "jetson-b")
    with on_agent(clone) as space, pytest.raises(StudyError, match="nano is another device") as refused, opened(space):
        pass
    assert "measured on  nano@jetson-a" in str(refused.value)
    assert "found now    nano@jetson-b" in str(refused.value)
    with on_agent(card) as space:
        measured(space, model)


@pytest.mark.long
def test_a_reinstalled_agent_on_equal_hardware_is_asked_about(on_agent, model, tmp_path):
    state = tmp_path / "state"
    install(state, "1421820011111", "jetson-a")
    with on_agent(state) as space:
        first = measured(space, model)
    shutil.rmtree(state)
    install(state, "1421820011111", "jetson-a")
    with on_agent(state) as space:
        with pytest.raises(StudyError, match="vitsearch devices accept nano") as refused, opened(space):
            pass
        line = next(line for line in str(refused.value).splitlines() if "vitsearch devices accept" in line)
        done = CliRunner().invoke(app, ["devices", "accept", *line.split()[-2:]], catch_exceptions=False)
        assert "is the same as nano@jetson-a" in done.stdout
        assert measured(space, model).device_id == first.device_id


@pytest.mark.long
def test_two_machines_without_devices_are_two_devices(space, model):
    space = asked(space)
    own = StudyFolders.of(space).agent
    install(own, "machine-a", "workstation")
    measured(space, model)
    shutil.rmtree(own)  # the other machine has a folder of its own beside the same database
    install(own, "machine-b", "workstation")
    with pytest.raises(StudyError, match="local is another device") as refused, opened(space):
        pass
    assert str(refused.value).count("local@workstation: ") == 2
    with closing(Study.open(space)) as study:
        assert study.devices["local"].label == "local@workstation"


def test_an_address_that_only_the_database_names_gets_no_connection(space, monkeypatch):
    monkeypatch.setenv("VITSEARCH_NANO_TOKEN", "s" * 64)
    with socket.create_server(("127.0.0.1", 0)) as hostile:
        url = f"http://127.0.0.1:{hostile.getsockname()[1]}"
        stored = asked(space, {"nano": {"url": url, "token": "env:VITSEARCH_NANO_TOKEN"}})
        Ledger.open(stored.storage).close()
        Study.open(stored).close()
        with (
            closing(Study.read(stored.storage, stored.study)) as study,
            pytest.raises(
                ResourceError, match="by the database of the study, 127.0.0.1:.* gets the token in VITSEARCH_"
            ),
            connected(study.space(), None, print),
        ):
            pass
        hostile.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            hostile.accept()
