"""A device's environment is looked at when nothing is measured, and remembered meanwhile."""

import pytest

from vitsearch_evaluators.agent import device as device_module
from vitsearch_evaluators.agent.device import Device
from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.conditions.environment import DeviceIdentity
from vitsearch_evaluators.config import AgentConfig, EmulationConfig, LimitsConfig

IDENTITY = DeviceIdentity("device", "physical")


@pytest.fixture
def looks(monkeypatch):
    """Each look at the environment, numbered."""
    seen = []

    def look(version, runtimes, system):
        seen.append(version)
        return {"look": len(seen)}

    monkeypatch.setattr(device_module, "fingerprint", look)
    return seen


@pytest.fixture
def device(tmp_path, looks):
    made = Device(IDENTITY, "1", system=System(str(tmp_path)))
    made.ready.set()
    return made


def test_nobody_looks_while_it_is_measured(device, looks):
    before = device.environment()
    with device.undisturbed():
        assert device.environment() == before
    assert device.environment() == {"look": 2}


def test_it_is_looked_at_again_after_a_measurement_that_failed(device, looks):
    device.environment()
    with pytest.raises(ValueError, match="failed"), device.undisturbed():
        raise ValueError("failed")
    assert device.environment() == {"look": 2}


def test_what_is_seen_before_it_is_ready_is_not_kept(tmp_path, looks):
    early = Device(IDENTITY, "1", system=System(str(tmp_path)))
    early.environment()
    with early.undisturbed():
        assert early.environment() == {"look": 2}


def test_what_the_configuration_changes_is_part_of_it(tmp_path, looks):
    config = AgentConfig(limits=LimitsConfig(memory_mb=500), emulation=EmulationConfig(2.0))
    found = Device(IDENTITY, "1", config, System(str(tmp_path))).environment()
    assert set(found) == {"look", "emulation", "memory_limit"}
