"""What a device lacks, by what its agent reports."""

from __future__ import annotations

from support.terminal import shown
from vitsearch.cli.doctor import print_devices
from vitsearch.devices import descriptions
from vitsearch.devices.registry import KnownDevice
from vitsearch.devices.survey import DevicePart, DeviceSurvey, device_parts, survey
from vitsearch_agent.wire.device_info import RuntimeInfo


def test_a_missing_runtime_has_the_line_that_installs_it_there():
    info = descriptions.find("jetson_nano").info
    lacking = RuntimeInfo("openvino", False, "No module named 'openvino'", None, ())
    parts = {part.name: part for part in device_parts(info._replace(runtimes=(*info.runtimes, lacking)))}
    assert parts["openvino"] == DevicePart("openvino", False, "No module named 'openvino'", "pip install openvino")
    assert any(part.works for name, part in parts.items() if name != "power meter")


def test_core_ml_is_not_offered_to_a_linux_board():
    info = descriptions.find("jetson_nano").info
    lacking = RuntimeInfo("coreml", False, "No module named 'coremltools'", None, ())
    extended = info._replace(runtimes=(*info.runtimes, lacking))
    on_linux = extended._replace(fingerprint={**info.fingerprint, "kernel": "6.1.0"})
    assert "coreml" in [part.name for part in device_parts(extended)]
    assert "coreml" not in [part.name for part in device_parts(on_linux)]


def test_a_device_without_a_meter_says_what_is_not_measured():
    info = descriptions.find("jetson_nano").info._replace(power_meter=None, quarantined="its canary drifted")
    parts = {part.name: part for part in device_parts(info)}
    assert parts["power meter"].detail == "none: energy_mj, power_w and peak_power_w are not measured"
    assert parts["measurements"].detail == "in quarantine: its canary drifted"


def test_a_device_that_does_not_answer_has_a_reason(monkeypatch):
    monkeypatch.setattr("vitsearch.devices.survey.ANSWER_S", 0.2)
    (survey_row,) = survey({"nano": KnownDevice("http://127.0.0.1:9", None)})
    assert survey_row.reason
    assert survey_row.parts == ()
    assert shown(print_devices, [survey_row]).startswith(
        f"Device nano (http://127.0.0.1:9)\n  does not answer: {survey_row.reason}"
    )


def test_no_device_says_how_to_add_one():
    assert shown(print_devices, []) == (
        "No device is known here. To add one, run:\n  vitsearch devices add https://nano.local:8470"
    )


def test_what_comes_from_a_device_is_escaped():
    survey_row = DeviceSurvey(
        "nano", "http://x", None, "board\x1b[2J", (DevicePart("onnxruntime", True, "1.0\x1b]0;x"),)
    )
    assert "\x1b" not in shown(print_devices, [survey_row])
