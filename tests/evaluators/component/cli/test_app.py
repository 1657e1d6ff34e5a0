import json
import os

import pytest

from support.artifact_files import added_row, constant
from vitsearch_agent import __version__
from vitsearch_agent.base import locks, tokens
from vitsearch_agent.cli import app
from vitsearch_agent.cli.progress import Progress
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.protocol import Measurement


@pytest.mark.parametrize(("text", "cpus"), [("1", {1}), ("0,2-3", {0, 2, 3}), ("2-2", {2})])
def test_processor_lists_are_parsed(text, cpus):
    assert app.parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "-1"])
def test_invalid_processor_lists_are_refused(text):
    with pytest.raises(InvalidRequest, match="--cpus: expected a list"):
        app.parse_cpus(text)


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        app.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"vitsearch-agent {__version__}\n"


@pytest.mark.long
def test_measure_prints_json(blob, capsys):
    assert app.main(["measure", blob, "--runtime", "noop", "--option", "busy_us=20", "--json"]) == 0
    measurement = Measurement.from_json(json.loads(capsys.readouterr().out))
    assert measurement.protocol.id == "screen-1"
    assert measurement.options == {"busy_us": 20}
    assert measurement.latency_ms.n >= 11


def test_measure_prints_a_summary(tiny_onnx, capsys):
    pytest.importorskip("onnxruntime")
    assert app.main(["measure", tiny_onnx()]) == 0
    out = capsys.readouterr().out
    assert "latency_ms_p50" in out
    assert "screen-1" in out


@pytest.mark.long
def test_measure_runs_further_phases_and_prints_their_progress(blob, capsys):
    options = ["--throughput", "0.2", "--streams", "2", "--soak", "0.1"]
    assert app.main(["measure", blob, "--runtime", "noop", "--option", "busy_us=20", *options]) == 0
    shown = capsys.readouterr()
    assert "after 0.1 s of load" in shown.out
    assert shown.err.splitlines() == [
        "vitsearch-agent: sustained phase",
        "vitsearch-agent: throughput phase",
    ]
    assert app.main(["measure", blob, "--runtime", "noop", "--streams", "0"]) == 2
    assert "measure.streams: expected a whole number from 1" in capsys.readouterr().err


@pytest.mark.long
def test_several_files_are_shown_in_a_table(blob, tmp_path, capsys):
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
    results = json.loads(capsys.readouterr().out)
    assert [result["model"] for result in results] == [blob, str(other)]
    assert all(Measurement.from_json(result["measurement"]).protocol.batch == 2 for result in results)


@pytest.mark.long
def test_a_failed_file_does_not_stop_the_others(blob, tiny_onnx, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert app.main(["measure", blob, tiny_onnx()]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(tiny_onnx()) for line in lines)
    assert any(line.startswith(f"{blob}: incompatible_artifact: not an ONNX file") for line in lines)
    assert app.main(["measure", blob, str(tmp_path / "none")]) == 2
    assert capsys.readouterr().out == "", "a missing file is reported before anything is measured"


@pytest.mark.long
def test_measure_waits_for_another_process_and_says_so(blob, capsys, monkeypatch):
    path = locks.measuring_lock_path()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    lock, waiting = locks.try_lock(path, "a model"), Progress.waiting

    def end_the_other(progress, other):
        waiting(progress, other)
        lock.close()

    monkeypatch.setattr(Progress, "waiting", end_the_other)
    assert app.main(["measure", blob, "--runtime", "noop", "--option", "busy_us=20"]) == 0
    assert capsys.readouterr().err == f"vitsearch-agent: waiting for pid {os.getpid()}, which measures a model\n"


def test_a_failed_measurement_is_exit_1_and_a_wrong_call_2(blob, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert app.main(["measure", blob]) == 1
    assert "incompatible_artifact" in capsys.readouterr().err
    assert app.main(["measure", str(tmp_path / "none")]) == 2
    assert app.main(["measure", blob, "--runtime", "onnx"]) == 2
    assert "did you mean 'onnxruntime'" in capsys.readouterr().err
    assert app.main(["measure", blob, "--option", "x"]) == 2


@pytest.fixture
def open_onnx(tmp_path):
    """The path of a model with an open width that only runs at width 8, and whose node has a hostile name."""
    pytest.importorskip("onnxruntime")
    path = tmp_path / "open.onnx"
    path.write_bytes(added_row(("batch", "width"), node_name="evil\x1b[2J\nlatency_ms_p50  0.001\u202e"))
    return str(path)


@pytest.mark.long
def test_an_open_dimension_is_refused_with_the_flag_and_measured_with_it(open_onnx, capsys):
    assert app.main(["measure", open_onnx]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("vitsearch-agent: incompatible_artifact: only an open first dimension is the batch")
    assert shown.splitlines()[0].endswith("input 'x' [batch, width]; give, for example, --shape x=1,224")
    assert app.main(["measure", open_onnx, "--shape", "x=2,8"]) == 0
    assert "\nshapes          x=2,8\n" in capsys.readouterr().out
    assert app.main(["measure", open_onnx, "--shape", "x=2,8", "--json"]) == 0
    measurement = Measurement.from_json(json.loads(capsys.readouterr().out))
    assert (measurement.batch, measurement.shapes) == (2, {"x": (2, 8)})
    assert measurement.protocol.shapes == {"x": (2, 8)}
    assert measurement.throughput_ips == pytest.approx(2e3 / measurement.latency_ms.mean)


def test_a_refusal_at_run_time_is_the_runtimes_sentence_without_a_stack_or_an_escape(open_onnx, capsys):
    assert app.main(["measure", open_onnx, "--shape", "x=1,5"]) == 1
    shown = capsys.readouterr().err
    first = shown.splitlines()[0]
    assert first.startswith("vitsearch-agent: incompatible_artifact: onnxruntime refuses to run the model: ")
    assert "evil\\x1b[2J\\nlatency_ms_p50  0.001\\u202e" in first
    assert "broadcast" in first
    assert "Traceback" not in shown
    assert shown.replace("\n", "").isprintable()


@pytest.mark.long
def test_a_model_with_a_fixed_batch_is_measured_at_it_and_refuses_another(tiny_onnx, capsys):
    pytest.importorskip("onnxruntime")
    assert app.main(["measure", tiny_onnx(batch=4)]) == 0
    shown = capsys.readouterr().out
    assert ", 1 thread, batch 4, " in shown
    assert "\nshapes          image=4,8\n" in shown
    assert app.main(["measure", tiny_onnx(batch=4), "--batch", "1"]) == 1
    assert "the model fixes batch 4 (input 'image' [4, 8]), but batch 1 was requested" in capsys.readouterr().err


@pytest.mark.long
def test_a_model_without_inputs_says_so(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    (tmp_path / "constant.onnx").write_bytes(constant())
    assert app.main(["measure", str(tmp_path / "constant.onnx")]) == 0
    assert "\nshapes          the model has no inputs\n" in capsys.readouterr().out


@pytest.mark.long
def test_files_of_different_shapes_are_told_apart(tiny_onnx, capsys):
    pytest.importorskip("onnxruntime")
    path, other = tiny_onnx(), tiny_onnx(batch=4, name="four.onnx")
    assert app.main(["measure", path, other]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("1 thread or screen-1, 1 thread, batch 4")
    at = lines.index("these figures are of different shapes:")
    assert lines[at + 1 : at + 3] == [f"{path}: image=1,8", f"{other}: image=4,8"]
    assert app.main(["measure", path, tiny_onnx(name="again.onnx")]) == 0
    assert "shapes: image=1,8" in capsys.readouterr().out.splitlines()


def test_the_token_command_shows_and_rotates_the_token(tmp_path, capsys):
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


def test_pinning_to_a_missing_processor_names_the_allowed_ones():
    with pytest.raises(InvalidRequest, match="this process may use"):
        app.pin({max(os.sched_getaffinity(0)) + 4096})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["token", "--state", "{}/none"], "token file {}/none/token does not exist; an agent creates its own"),
        (["token", "--state", "{}/none", "--rotate"], "token file {}/none/token cannot be written: No such file"),
        (["serve", "--state", "{}/file"], "--state {}/file: File exists; it must be a folder"),
        (["serve", "--state", "{}/file/in"], "--state {}/file/in: Not a directory; it must be a folder"),
        (["status", "--state", "{}/none"], "--state {}/none is not the folder of an agent"),
        (["power", "--state", "{}/none"], "--state {}/none is not the folder of an agent"),
    ],
)
def test_a_wrong_folder_is_reported_on_one_line(tmp_path, capsys, command, message):
    (tmp_path / "file").write_text("")
    assert app.main([part.format(tmp_path) for part in command]) == 2
    assert message.format(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "options", "message"),
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
def test_a_wrong_configuration_has_its_own_exit_code(tmp_path, capsys, content, options, message):
    (tmp_path / "config.json").write_text(content)
    assert app.main(["serve", "--state", str(tmp_path), *options]) == app.WRONG_CONFIGURATION
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_is_checked_before_the_state_is_created(tmp_path, capsys, port):
    with pytest.raises(SystemExit):
        app.main(["serve", "--state", str(tmp_path / "state"), "--port", port])
    assert "argument --port" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_status_shows_what_measured_models_are_kept_from(agent, client, tmp_path, capsys):
    client.device()  # waits until the agent has found out
    assert app.main(["status", "--state", str(tmp_path / "state")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "agent    runs"
    assert [line.split()[:2] for line in lines[2:]] == [
        [restriction.name, "yes" if restriction.holds else "NO"] for restriction in client.device().restrictions
    ]
    agent.stop()
    assert app.main(["status", "--state", str(tmp_path / "state")]) == 1
    assert capsys.readouterr().out.startswith("agent    does not run\n")


def test_status_says_that_it_may_not_look_into_the_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert app.main(["status", "--state", str(tmp_path)]) != 0
    assert f"--state {tmp_path} cannot be read: run this as root or as the agent's user" in capsys.readouterr().err


def test_status_of_a_new_folder_says_that_nothing_is_known(tmp_path, capsys):
    assert app.main(["status", "--state", str(tmp_path)]) == 1
    assert "no agent has started here yet" in capsys.readouterr().out


@pytest.mark.parametrize(("user", "warns"), [(0, True), (1000, False)])
def test_an_agent_that_runs_as_root_warns(tmp_path, caplog, monkeypatch, user, warns):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    (tmp_path / "config.json").write_text("{")  # ends the start early
    app.main(["serve", "--state", str(tmp_path)])
    assert ("the agent runs as root" in caplog.text) is warns


def test_the_power_command_reads_the_meters_of_an_emulated_device(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"emulation": {"slowdown": 2.0}}')
    board = DeviceTree(str(tmp_path / "emulated"))
    rail = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    for name, value in (("in1_label", "VDD_IN"), ("in1_input", 5000), ("curr1_input", 800)):
        board.write(f"{rail}/{name}", value)
    assert app.main(["power", "--state", str(tmp_path)]) == 0
    assert "* ina3221          4.000 W (module)" in capsys.readouterr().out
