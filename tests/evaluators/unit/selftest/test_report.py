"""The file of a selftest: read back as written, and without what says whose board it is."""

import json

import pytest

from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.selftest.recording import Recording
from vitsearch_agent.selftest.report import FAILED, PASSED, SKIPPED, SelftestReport, StepResult
from vitsearch_agent.wire.device_info import DeviceInfo
from vitsearch_agent.wire.hardware import Hardware

HARDWARE = Hardware("anna-pi", "Raspberry Pi 5", "arm 0x41/0xd0b", "5e" * 16, ("ad" * 16,), "1d" * 16)
DEVICE = DeviceInfo(3, 3, "0", "d", "physical", "0" * 64, {"python": "3.11"}, (), ("measure",), 1, 0, 0)
RECORDING = Recording({"/proc/cpuinfo": "x"}, {}, (), {}, {}, {}, {})


def report(*outcomes):
    steps = tuple(StepResult(f"step {outcome}", outcome, "message", 1.5, {"n": 1}) for outcome in outcomes)
    device = DEVICE._replace(hardware=HARDWARE)
    return SelftestReport(1, "0.1.0", "2026-12-01T00:00:00Z", 12.5, steps, device, RECORDING)


def test_a_report_is_read_back_as_it_was_written():
    stored = json.loads(json.dumps(report(PASSED, SKIPPED).to_json()))
    assert SelftestReport.from_json(stored).to_json() == stored


@pytest.mark.parametrize(("outcomes", "passed"), [((PASSED, SKIPPED), True), ((PASSED, FAILED), False)])
def test_only_a_failed_step_fails_it(outcomes, passed):
    assert report(*outcomes).passed is passed


def test_it_does_not_say_whose_board_it_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    step = StepResult("runtimes", PASSED, "python is /home/anna/venv/bin/python", 1.0, {"a": ["/home/anna/b"]})
    written = report()._replace(steps=(step,)).to_json()
    assert not [word for word in ("anna", *HARDWARE.adapters, HARDWARE.serial) if word in json.dumps(written)]
    assert written["device"]["hardware"]["board"] == "Raspberry Pi 5"
    assert written["steps"][0]["details"] == {"a": ["~/b"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "selftest.format"),
        ({"more": 1}, "unknown more"),
        ({"steps": [{"name": "x"}]}, "missing details"),
    ],
)
def test_another_file_is_refused(change, message):
    with pytest.raises(InvalidRequest, match=message):
        SelftestReport.from_json(dict(report(PASSED).to_json(), **change))
