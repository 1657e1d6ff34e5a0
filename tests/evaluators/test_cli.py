import json
import os

import pytest

from vitsearch_evaluators import __version__, cli, tokens
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.protocol import Measurement


@pytest.mark.parametrize(("text", "cpus"), [("1", {1}), ("0,2-3", {0, 2, 3}), ("2-2", {2})])
def test_processor_lists(text, cpus):
    assert cli.parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "-1"])
def test_bad_processor_lists(text):
    with pytest.raises(InvalidRequest, match="--cpus: expected a list"):
        cli.parse_cpus(text)


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"vitsearch-agent {__version__}\n"


def test_measure_as_json(blob, capsys):
    assert cli.main(["measure", blob, "--runtime", "noop", "--option", "busy_us=20", "--json"]) == 0
    measurement = Measurement.from_json(json.loads(capsys.readouterr().out))
    assert measurement.protocol.id == "screen-1"
    assert measurement.options == {"busy_us": 20}
    assert measurement.latency_ms.n >= 11


def test_measure_for_a_person(tiny_onnx, capsys):
    pytest.importorskip("onnxruntime")
    assert cli.main(["measure", tiny_onnx()]) == 0
    out = capsys.readouterr().out
    assert "latency_ms_p50" in out
    assert "screen-1" in out


def test_measure_with_phases(blob, capsys):
    options = ["--throughput", "0.2", "--streams", "2", "--soak", "0.1"]
    assert cli.main(["measure", blob, "--runtime", "noop", "--option", "busy_us=20", *options]) == 0
    out = capsys.readouterr().out
    assert "after 0.1 s of load" in out
    assert cli.main(["measure", blob, "--runtime", "noop", "--streams", "0"]) == 2
    assert "measure.streams: expected a whole number from 1" in capsys.readouterr().err


def test_a_failed_measurement_is_exit_1_and_a_wrong_call_2(blob, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert cli.main(["measure", blob]) == 1
    assert "incompatible_artifact" in capsys.readouterr().err
    assert cli.main(["measure", str(tmp_path / "none")]) == 2
    assert cli.main(["measure", blob, "--runtime", "onnx"]) == 2
    assert "did you mean 'onnxruntime'" in capsys.readouterr().err
    assert cli.main(["measure", blob, "--option", "x"]) == 2


def test_the_token_is_shown_and_rotated(tmp_path, capsys):
    state = str(tmp_path)
    assert cli.main(["token", "--state", state]) == 2
    assert "token" in capsys.readouterr().err
    tokens.write_tokens(str(tmp_path / "token"), ("a" * 64,))
    assert cli.main(["token", "--state", state]) == 0
    assert capsys.readouterr().out == "a" * 64 + "\n"
    assert cli.main(["token", "--state", state, "--rotate", "--keep-old"]) == 0
    new = capsys.readouterr().out.strip()
    assert tokens.read_tokens(str(tmp_path / "token")) == (new, "a" * 64)
    assert cli.main(["token", "--state", state, "--keep-old"]) == 2


def test_pin_says_what_is_allowed():
    with pytest.raises(InvalidRequest, match="this process may use"):
        cli.pin({max(os.sched_getaffinity(0)) + 4096})
