"""The driver's side of a device: a real agent, its death, and what becomes of failures."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vitsearch.core.plan import Deployment
from vitsearch.devices.agent_device import FOR_EVER_S, AgentDevice, Cores, refuse_unable, refuse_unmetered, token_from
from vitsearch.errors import DeviceLost, ResourceError, StageError
from vitsearch_evaluators.client.client import DeviceClient, Subset
from vitsearch_evaluators.client.embedded_agent import EmbeddedAgent
from vitsearch_evaluators.wire.protocol import SCREEN, DeviceInfo, RuntimeInfo

pytestmark = pytest.mark.slow
DEPLOYMENT = Deployment("local", "onnxruntime", "CPUExecutionProvider", "fp32")
QUICK = SCREEN._replace(id="test", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.1)


def write_model(path: Path, name: str) -> Path:
    """One matrix product, dynamic batch."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [8, 8], [0.5] * 64)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["images", "w"], ["logits"])],
        name,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def agent(tmp_path):
    with EmbeddedAgent(str(tmp_path / "agent")) as agent:
        yield agent


@pytest.fixture
def device(agent):
    device = AgentDevice("local", agent.client("study"))
    yield device
    device.close()


def measure(device, path):
    return asyncio.run(device.measure(path, DEPLOYMENT, QUICK, repeat=0))


def test_a_model_is_measured(device, tmp_path):
    found = measure(device, write_model(tmp_path / "a.onnx", "a"))
    assert found.latency_ms.n >= 11
    assert found.device_id == device.info.device_id


def test_an_agent_that_died_is_started_again(device, agent, tmp_path):
    os.kill(agent.pid, signal.SIGKILL)
    assert measure(device, write_model(tmp_path / "b.onnx", "b")).latency_ms.n >= 11


def test_a_file_that_is_no_model_is_the_stage_s_failure(device, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"this is no model")
    with pytest.raises(StageError) as caught:
        measure(device, path)
    assert caught.value.stage == "measure"


def test_a_job_that_somebody_else_cancels_fails_and_ends_nothing_else(device, agent, tmp_path):
    """As a task that is cancelled it ended the whole run, which said that it was interrupted."""
    endless = QUICK._replace(min_runs=5000, min_s=60.0, warmup_min_runs=2, warmup_min_s=60.0)
    model = write_model(tmp_path / "g.onnx", "g")

    async def cancelled():
        measuring = asyncio.ensure_future(device.measure(model, DEPLOYMENT, endless, repeat=0))
        with agent.client("a colleague") as colleague:
            while not (jobs := await asyncio.to_thread(colleague.jobs)):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(colleague.cancel, jobs[0].id)
        await measuring

    with pytest.raises(StageError, match="was cancelled on the device") as caught:
        asyncio.run(cancelled())
    assert (caught.value.stage, caught.value.kind) == ("measure", "cancelled")
    assert measure(device, model).latency_ms.n >= 11


def test_the_last_core_measures_and_the_others_train():
    cores = Cores.shared()
    allowed = sorted(os.sched_getaffinity(0))
    assert cores.device == (allowed[-1],)
    assert set(cores.trainers) == set(allowed[:-1] or allowed)


def test_a_token_comes_from_the_environment():
    assert token_from("env:NANO", {"NANO": "secret"}) == "secret"


def test_a_token_that_is_not_set_names_the_variable():
    with pytest.raises(ResourceError, match="NANO, which is not set"):
        token_from("env:NANO", {})


def test_a_device_in_a_new_environment_is_asked_again_there(device, tmp_path):
    here = device.info.environment_id
    device.info = device.info._replace(environment_id="ab" * 32)
    assert measure(device, write_model(tmp_path / "c.onnx", "c")).environment_id == here
    assert device.info.environment_id == here


def test_an_environment_that_never_holds_still_is_a_lost_device(device, tmp_path, monkeypatch):
    model, moved = write_model(tmp_path / "d.onnx", "d"), device.info._replace(environment_id="ab" * 32)
    device.info = moved
    monkeypatch.setattr(device, "_meet_again", lambda: None)
    with pytest.raises(DeviceLost, match="environment changed"):
        measure(device, model)


def test_another_board_at_its_address_is_a_lost_device(device, tmp_path):
    device.info = device.info._replace(environment_id="ab" * 32, device_id="the one before")
    with pytest.raises(DeviceLost, match="another one answers at its address"):
        measure(device, write_model(tmp_path / "e.onnx", "e"))


def test_while_it_does_not_answer_it_is_absent(agent, make_proxy, tmp_path):
    proxy = make_proxy(int(agent.url.rpartition(":")[2]))
    device = AgentDevice("nano", DeviceClient(proxy.url, agent.token, "study", deadline_s=FOR_EVER_S))
    model = write_model(tmp_path / "f.onnx", "f")
    proxy.cut()

    async def cut_and_mend():
        measuring = asyncio.ensure_future(device.measure(model, DEPLOYMENT, QUICK, repeat=0))
        while device.outage is None:
            await asyncio.sleep(0.01)
        why = device.outage.why
        proxy.restore()
        return why, await measuring

    why, found = asyncio.run(cut_and_mend())
    device.close()
    assert proxy.url in why
    assert (found.attempts, device.outage) == (1, None)


def test_a_device_that_does_not_answer_is_one_message(monkeypatch):
    monkeypatch.setattr("vitsearch.devices.agent_device.GREETING_PAUSE_S", 0.0)
    with pytest.raises(DeviceLost, match="device nano: "):
        AgentDevice("nano", DeviceClient("http://127.0.0.1:9", token="x" * 32))


ORT = RuntimeInfo("onnxruntime", True, None, "1.9.0", (), max_opset=15, max_ir_version=8)


@pytest.mark.parametrize(
    ("runtimes", "told"),
    [
        ((ORT,), r"device nano: models are exported with opset 17, its onnxruntime \(1.9.0\) reads up to 15"),
        ((ORT._replace(available=False, reason="no numpy"),), "onnxruntime cannot be used there: no numpy"),
        ((ORT._replace(name="noop"),), "device nano has no onnxruntime; it has noop"),
        ((), "it has no runtime"),
    ],
)
def test_a_device_that_cannot_run_the_study_is_refused_before_it_begins(runtimes, told):
    info = DeviceInfo(2, 2, "0", "d", "physical", "0" * 64, {}, runtimes, ("measure",), 1, 0, 0)
    with pytest.raises(ResourceError, match=told):
        refuse_unable("nano", info, ["onnxruntime"], 17)


@pytest.mark.parametrize("newest", [17, 18, None])
def test_a_device_that_reads_the_opset_or_does_not_say_is_taken(newest):
    ready = (ORT._replace(max_opset=newest),)
    info = DeviceInfo(2, 2, "0", "d", "physical", "0" * 64, {}, ready, ("measure",), 1, 0, 0)
    refuse_unable("nano", info, ["onnxruntime"], 17)


def test_a_device_without_a_meter_is_refused_where_power_counts():
    info = DeviceInfo(2, 2, "0", "d", "physical", "0" * 64, {}, (ORT,), ("measure",), 1, 0, 0)
    told = "device nano has no power meter that can be read, which energy_mj@nano needs: .*'vitsearch-agent power'"
    with pytest.raises(ResourceError, match=told):
        refuse_unmetered("nano", info, ["accuracy", "cpu_ms_p50", "energy_mj@nano"])
    refuse_unmetered("nano", info._replace(power_meter="ina3221"), ["energy_mj"])
    refuse_unmetered("nano", info, ["accuracy", "cpu_ms_p50"])


def test_a_device_judges_a_model_and_says_why_it_cannot(device, tmp_path):
    generator = np.random.default_rng(0)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["logits"])],
        "flat",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 2, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "flat")
    images = generator.standard_normal((9, 1, 2, 4)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    labels = images.reshape(9, 8).argmax(1)
    labels[0] = (labels[0] + 1) % 8
    np.save(tmp_path / "labels.npy", labels)
    subset = Subset(str(tmp_path / "images.npy"), str(tmp_path / "labels.npy"))
    found = asyncio.run(device.accuracy(tmp_path / "flat", subset, DEPLOYMENT))
    assert (found.correct, found.n, found.classes) == (8, 9, 8)
    with pytest.raises(StageError, match="noop gives no outputs"):
        asyncio.run(device.accuracy(tmp_path / "flat", subset, Deployment("local", "noop", "", "fp32")))
