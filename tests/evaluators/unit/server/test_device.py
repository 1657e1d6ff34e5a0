"""A device's environment is read when nothing is measured, and remembered during a measurement."""

import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.environment import environment_id
from vitsearch_agent.config import AgentConfig, EmulationConfig, LimitsConfig
from vitsearch_agent.errors import EnvironmentChanged
from vitsearch_agent.server import device as device_module
from vitsearch_agent.server.device import Device
from vitsearch_agent.server.identity import EMULATED, DeviceIdentity
from vitsearch_agent.wire.device_info import RuntimeInfo

IDENTITY = DeviceIdentity("device", "physical")


@pytest.fixture
def reads(monkeypatch):
    """Number each reading of the environment."""
    seen = []

    def read(version, runtimes, system):
        seen.append(version)
        return {"read": len(seen)}

    monkeypatch.setattr(device_module, "fingerprint", read)
    return seen


@pytest.fixture
def device(tmp_path, reads):
    new = Device(IDENTITY, "1", system=System(str(tmp_path)))
    new.ready.set()
    return new


def test_the_environment_is_not_read_during_a_measurement(device, reads):
    before = device.environment()
    with device.undisturbed():
        assert device.environment() == before
    assert device.environment() == {"read": 2}


def test_the_environment_is_read_again_after_a_failed_measurement(device, reads):
    device.environment()
    with pytest.raises(ValueError, match="failed"), device.undisturbed():
        raise ValueError("failed")
    assert device.environment() == {"read": 2}


def test_a_change_during_a_measurement_is_refused_with_what_changed(device):
    before = device.environment()
    with pytest.raises(EnvironmentChanged, match="read: 2, before 1") as caught:
        device.refuse_change(before)
    assert caught.value.details == {"wanted": environment_id({"read": 1}), "actual": environment_id({"read": 2})}
    device.refuse_change({"read": 3})


def test_runtimes_that_were_asked_again_are_part_of_the_environment_at_once(device):
    device.environment()
    with device.undisturbed():
        device.set_runtimes((RuntimeInfo("noop", True, None, "2", ()),))
        assert device.environment() == {"read": 1, "runtimes": {"noop": {"version": "2", "providers": []}}}


def test_an_environment_read_before_ready_is_not_remembered(tmp_path, reads):
    early = Device(IDENTITY, "1", system=System(str(tmp_path)))
    early.environment()
    with early.undisturbed():
        assert early.environment() == {"read": 2}


def test_a_device_whose_instructions_are_translated_is_slowed_down_by_nothing_more(tmp_path):
    assert Device(IDENTITY, "1", system=System(str(tmp_path))).slowdown is None
    translated = DeviceIdentity("emu-device", EMULATED)
    assert Device(translated, "1", system=System(str(tmp_path))).slowdown == 1.0
    declared = AgentConfig(emulation=EmulationConfig(2.0))
    assert Device(translated, "1", declared, System(str(tmp_path))).slowdown == 2.0


def test_emulation_and_memory_limit_are_part_of_the_environment(tmp_path, reads):
    config = AgentConfig(limits=LimitsConfig(memory_mb=500), emulation=EmulationConfig(2.0))
    environment = Device(IDENTITY, "1", config, System(str(tmp_path))).environment()
    assert set(environment) == {"read", "emulation", "memory_limit"}
