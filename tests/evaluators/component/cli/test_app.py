import json
import os

import pytest

from vitsearch_evaluators import __version__
from vitsearch_evaluators.base import tokens
from vitsearch_evaluators.cli import app
from vitsearch_evaluators.conditions.emulation import DeviceTree
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.wire.protocol import Measurement


@pytest.mark.parametrize(("text", "cpus"), [("1", {1}), ("0,2-3", {0, 2, 3}), ("2-2", {2})])
def test_processor_lists(text, cpus):
    assert app.parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "-1"])
def test_bad_processor_lists(text):
    with pytest.raises(InvalidRequest, match="--cpus: expected a list"):
        app.parse_cpus(text)


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        app.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"vitsearch-agent {__version__}\n"


def test_measure_as_json(blob, capsys):
    assert app.main(["measure", blob, "--runtime", "noop", "--option", "busy_us=20", "--json"]) == 0
    measurement = Measurement.from_json(json.loads(capsys.readouterr().out))
    assert measurement.protocol.id == "screen-1"
    assert measurement.options == {"busy_us": 20}
    assert measurement.latency_ms.n >= 11


def test_measure_for_a_person(tiny_onnx, capsys):
    pytest.importorskip("onnxruntime")
    assert app.main(["measure", tiny_onnx()]) == 0
    out = capsys.readouterr().out
    assert "latency_ms_p50" in out
    assert "screen-1" in out


def test_measure_with_phases(blob, capsys):
    options = ["--throughput", "0.2", "--streams", "2", "--soak", "0.1"]
    assert app.main(["measure", blob, "--runtime", "noop", "--option", "busy_us=20", *options]) == 0
    shown = capsys.readouterr()
    assert "after 0.1 s of load" in shown.out
    assert shown.err.splitlines() == [
        "vitsearch-agent: sustained phase",
        "vitsearch-agent: throughput phase",
    ], "who waits is told why"
    assert app.main(["measure", blob, "--runtime", "noop", "--streams", "0"]) == 2
    assert "measure.streams: expected a whole number from 1" in capsys.readouterr().err


def test_several_files_stand_beside_each_other(blob, tmp_path, capsys):
    other = tmp_path / "other"
    other.write_bytes(b"other")
    call = ["measure", blob, str(other), "--runtime", "noop", "--option", "busy_us=20", "--batch", "2"]
    assert app.main(call) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "noop 1, screen-1, 1 thread, batch 2"
    assert lines[2].split()[:3] == ["model", "p50", "ms"]
    assert [line.split()[0] for line in lines[3:5]] == [blob, str(other)]
    assert "1.00 x" in lines[3]
    assert app.main([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["model"] for one in told] == [blob, str(other)]
    assert all(Measurement.from_json(one["measurement"]).protocol.batch == 2 for one in told)


def test_one_file_that_fails_keeps_no_other_from_being_measured(blob, tiny_onnx, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert app.main(["measure", blob, tiny_onnx()]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(tiny_onnx()) for line in lines)
    assert any(line.startswith(f"{blob}: incompatible_artifact: not an ONNX file") for line in lines)
    assert app.main(["measure", blob, str(tmp_path / "none")]) == 2
    assert capsys.readouterr().out == "", "what is not there is told before anything is measured"


def test_a_failed_measurement_is_exit_1_and_a_wrong_call_2(blob, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert app.main(["measure", blob]) == 1
    assert "incompatible_artifact" in capsys.readouterr().err
    assert app.main(["measure", str(tmp_path / "none")]) == 2
    assert app.main(["measure", blob, "--runtime", "onnx"]) == 2
    assert "did you mean 'onnxruntime'" in capsys.readouterr().err
    assert app.main(["measure", blob, "--option", "x"]) == 2


def test_the_token_is_shown_and_rotated(tmp_path, capsys):
    state = str(tmp_path)
    assert app.main(["token", "--state", state]) == 2
    assert "token" in capsys.readouterr().err
    tokens.write_tokens(str(tmp_path / "token"), ("a" * 64,))
    assert app.main(["token", "--state", state]) == 0
    assert capsys.readouterr().out == "a" * 64 + "\n"
    assert app.main(["token", "--state", state, "--rotate", "--keep-old"]) == 0
    new = capsys.readouterr().out.strip()
    assert tokens.read_tokens(str(tmp_path / "token")) == (new, "a" * 64)
    assert app.main(["token", "--state", state, "--keep-old"]) == 2


def test_pin_says_what_is_allowed():
    with pytest.raises(InvalidRequest, match="this process may use"):
        app.pin({max(os.sched_getaffinity(0)) + 4096})


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["token", "--state", "{}/none"], "token file {}/none/token does not exist; an agent creates its own"),
        (["token", "--state", "{}/none", "--rotate"], "token file {}/none/token cannot be written: No such file"),
        (["serve", "--state", "{}/file"], "--state {}/file: File exists; it is a folder"),
        (["serve", "--state", "{}/file/in"], "--state {}/file/in: Not a directory; it is a folder"),
        (["power", "--state", "{}/none"], "--state {}/none is no folder of an agent"),
    ],
)
def test_a_wrong_folder_is_one_line_that_says_what_is_wrong(tmp_path, capsys, command, told):
    (tmp_path / "file").write_text("")
    assert app.main([part.format(tmp_path) for part in command]) == 2
    assert told.format(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        ('{"runtimes": {"onxruntime": {"python": "/usr/bin/python3"}}}', [], "runtime 'onxruntime' is unknown"),
        ('{"limits": {"quota_mb": -1}}', [], "config.json.limits.quota_mb"),
        ('{"limits": ', [], "config.json is not JSON"),
        ('{"power": {"meter": "inna3221"}}', [], "inna3221"),
        ("{}", ["--token-file", "/none"], "token file /none does not exist"),
        ("{}", ["--tls-cert", "/none", "--tls-key", "/none"], "/none is not a certificate"),
        ("{}", ["--tls-cert", "/none"], "--tls-cert and --tls-key must be given together"),
    ],
)
def test_what_a_person_must_mend_has_an_exit_code_of_its_own(tmp_path, capsys, content, options, told):
    (tmp_path / "config.json").write_text(content)
    assert app.main(["serve", "--state", str(tmp_path), *options]) == app.WRONG_CONFIGURATION
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_is_checked_before_anything_is_made(tmp_path, capsys, port):
    with pytest.raises(SystemExit):
        app.main(["serve", "--state", str(tmp_path / "state"), "--port", port])
    assert "argument --port" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_the_meters_of_an_emulated_device_are_its_own(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"emulation": {"slowdown": 2.0}}')
    board = DeviceTree(str(tmp_path / "emulated"))
    rail = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    for name, value in (("in1_label", "VDD_IN"), ("in1_input", 5000), ("curr1_input", 800)):
        board.write(f"{rail}/{name}", value)
    assert app.main(["power", "--state", str(tmp_path)]) == 0
    assert "* ina3221          4.000 W (module)" in capsys.readouterr().out
