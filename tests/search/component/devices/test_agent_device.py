"""The driver's side of a device, with a real agent: outages, restarts and failures."""

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
from vitsearch.devices.agent_device import AgentDevice, refuse_unmetered
from vitsearch.devices.connection import FOREVER_S, token_from
from vitsearch.errors import DeviceLost, ResourceError, StageError
from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.errors import JobCancelled
from vitsearch_agent.wire.protocol import SCREEN, DeviceInfo, Hardware, RuntimeInfo

DEPLOYMENT = Deployment("local", "onnxruntime", "cpu", "fp32")
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


def write_flat(path: Path) -> Path:
    """A model whose outputs are the eight numbers of its image."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["logits"])],
        "flat",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 2, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
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


@pytest.mark.long
def test_a_model_is_measured(device, tmp_path):
    measurement = measure(device, write_model(tmp_path / "a.onnx", "a"))
    assert measurement.latency_ms.n >= 11
    assert measurement.device_id == device.info.device_id


@pytest.mark.long
def test_a_killed_agent_is_restarted(device, agent, tmp_path):
    os.kill(agent.pid, signal.SIGKILL)
    assert measure(device, write_model(tmp_path / "b.onnx", "b")).latency_ms.n >= 11


def test_an_invalid_model_fails_the_stage(device, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(StageError) as caught:
        measure(device, path)
    assert caught.value.stage == "measure"
    assert caught.value.message.startswith(f"device {device.name}: ")


@pytest.mark.long
def test_a_job_cancelled_by_somebody_else_fails_only_its_stage(device, agent, tmp_path):
    """As a cancelled task it would end the whole run with the message that it was interrupted."""
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


@pytest.mark.long
def test_a_measurement_behind_that_of_another_study_names_it(device, agent, tmp_path):
    endless = QUICK._replace(min_runs=5000, min_s=60.0, warmup_min_runs=2, warmup_min_s=60.0)
    first, second = write_model(tmp_path / "h.onnx", "h"), write_model(tmp_path / "i.onnx", "i")

    async def queued():
        with agent.client("kim") as kim, agent.client("kim") as watching:
            before = asyncio.ensure_future(asyncio.to_thread(kim.measure, str(first), protocol=endless))
            while not (jobs := await asyncio.to_thread(watching.jobs)):
                await asyncio.sleep(0.01)
            ours = asyncio.ensure_future(device.measure(second, DEPLOYMENT, QUICK, repeat=0))
            while (line := await device.waits_in_queue()) is None:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(watching.cancel, jobs[0].id)
            with pytest.raises(JobCancelled):
                await before
            await ours
            return line

    expected = "waits for device local: 1 job is before ours, the first of study 'kim'"
    assert asyncio.run(queued()) == expected
    assert asyncio.run(device.waits_in_queue()) is None


def test_a_token_comes_from_the_environment():
    assert token_from("env:VITSEARCH_NANO", {"VITSEARCH_NANO": "secret"}) == "secret"


def test_a_missing_token_is_reported_with_its_variable():
    with pytest.raises(ResourceError, match="VITSEARCH_NANO must hold the token, but it is not set"):
        token_from("env:VITSEARCH_NANO", {})


@pytest.mark.long
def test_a_changed_environment_repeats_the_measurement_there(device, tmp_path):
    here = device.info.environment_id
    device.info = device.info._replace(environment_id="ab" * 32)
    assert measure(device, write_model(tmp_path / "c.onnx", "c")).environment_id == here
    assert device.info.environment_id == here


@pytest.mark.long
def test_an_environment_that_keeps_changing_means_a_lost_device(device, tmp_path, monkeypatch):
    model, moved = write_model(tmp_path / "d.onnx", "d"), device.info._replace(environment_id="ab" * 32)
    device.info = moved
    monkeypatch.setattr(device, "_refresh_info", lambda: None)
    with pytest.raises(DeviceLost, match="environment changed"):
        measure(device, model)


def test_another_device_at_the_address_means_a_lost_device(device, tmp_path):
    device.info = device.info._replace(environment_id="ab" * 32, device_id="the one before")
    with pytest.raises(DeviceLost, match="another device answers at the address of local") as caught:
        measure(device, write_model(tmp_path / "e.onnx", "e"))
    assert "its hardware is the same, as far as it says" in str(caught.value)
    assert "vitsearch devices accept local STUDY; then the same command resumes" in str(caught.value)


def test_another_board_at_the_address_is_refused_in_words_with_what_to_do(device, tmp_path):
    hardware = Hardware("nano-1", "Jetson Nano", "Cortex-A57", serial="ab" * 32)
    device.info = device.info._replace(environment_id="ab" * 32, device_id="the one before", hardware=hardware)
    with pytest.raises(DeviceLost) as caught:
        measure(device, write_model(tmp_path / "e.onnx", "e"))
    for text in ("it differs by processor", "Jetson Nano, Cortex-A57", "connect the one that measured, and the same"):
        assert text in str(caught.value)
    assert "devices accept" not in str(caught.value)


@pytest.mark.long
def test_a_device_that_does_not_answer_has_an_outage(agent, make_proxy, tmp_path):
    proxy = make_proxy(int(agent.url.rpartition(":")[2]))
    device = AgentDevice("nano", DeviceClient(proxy.url, agent.token, "study", deadline_s=FOREVER_S))
    model = write_model(tmp_path / "f.onnx", "f")
    proxy.cut()

    async def cut_and_restore():
        measuring = asyncio.ensure_future(device.measure(model, DEPLOYMENT, QUICK, repeat=0))
        while device.outage is None:
            await asyncio.sleep(0.01)
        why = device.outage.why
        proxy.restore()
        return why, await measuring

    why, outage = asyncio.run(cut_and_restore())
    device.close()
    assert proxy.url in why
    assert (outage.attempts, device.outage) == (1, None)


def test_connecting_to_a_silent_device_fails_with_one_message(monkeypatch):
    monkeypatch.setattr("vitsearch.devices.agent_device.CONNECT_PAUSE_S", 0.0)
    with pytest.raises(DeviceLost, match="device nano: "):
        AgentDevice("nano", DeviceClient("http://127.0.0.1:9", token="x" * 32))


ORT = RuntimeInfo("onnxruntime", True, None, "1.9.0", (), max_opset=15, max_ir_version=8)


def test_a_device_without_a_meter_is_refused_for_power_metrics():
    info = DeviceInfo(3, 3, "0", "d", "physical", "0" * 64, {}, (ORT,), ("measure",), 1, 0, 0)
    message = "device nano has no usable power meter, but energy_mj@nano needs one: .*'vitsearch-agent power'"
    with pytest.raises(ResourceError, match=message):
        refuse_unmetered("nano", info, ["accuracy", "cpu_ms_p50", "energy_mj@nano"])
    refuse_unmetered("nano", info._replace(power_meter="ina3221"), ["energy_mj"])
    refuse_unmetered("nano", info, ["accuracy", "cpu_ms_p50"])


def test_outputs_that_the_device_has_removed_are_made_again(agent, device, tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.eye(8, dtype="f4").reshape(8, 1, 2, 4))
    flat = write_flat(tmp_path / "flat")
    first = asyncio.run(device.outputs(flat, path, DEPLOYMENT, "none"))
    for part in first.result.parts:
        os.remove(tmp_path / "agent" / "blobs" / part.sha256)
    again = asyncio.run(device.outputs(flat, path, DEPLOYMENT, "none"))
    assert again.result.job_id != first.result.job_id
    assert np.array_equal(again.values, np.eye(8))


@pytest.mark.long
def test_outputs_of_the_device_and_their_failure(device, tmp_path):
    generator = np.random.default_rng(0)
    write_flat(tmp_path / "flat")
    images = generator.standard_normal((9, 1, 2, 4)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    path = tmp_path / "images.npy"
    kept = asyncio.run(device.outputs(tmp_path / "flat", path, DEPLOYMENT, "argmax_uint8"))
    assert kept.values.dtype == np.uint8
    assert kept.values.tolist() == images.reshape(9, 8).argmax(1).tolist()
    assert (kept.result.n, kept.result.item_shape, kept.result.not_finite) == (9, (), 0)
    whole = asyncio.run(device.outputs(tmp_path / "flat", path, DEPLOYMENT, "none"))
    assert np.array_equal(whole.values, images.reshape(9, 8))
    here = device.info.environment_id
    device.info = device.info._replace(environment_id="ab" * 32)  # a runtime was updated since
    again = asyncio.run(device.outputs(tmp_path / "flat", path, DEPLOYMENT, "argmax_uint8"))
    assert again.result.environment_id == here
    assert device.info.environment_id == here
    with pytest.raises(StageError, match="noop gives no outputs"):
        asyncio.run(device.outputs(tmp_path / "flat", path, Deployment("local", "noop", "", "fp32"), "none"))
