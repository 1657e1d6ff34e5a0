"""Every way in which the measuring child can end, with the kind of failure that is reported."""

import contextlib
import json
import os
import signal
import sys
import threading

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child_process import Interrupted, StopSignal, child_environment, read_answer, run_child
from vitsearch_agent.measure.warm_parents import ParentKey, WarmParents

KEY = ParentKey("here", "faults", 0)


@pytest.fixture
def stop():
    signal = StopSignal()
    yield signal
    signal.close()


@pytest.fixture(params=["started", "forked"])
def parents(request):
    """None for children that are started, else the parents of those that are forked."""
    if request.param == "started":
        yield None
        return
    processes.adopt_orphans()
    with contextlib.closing(WarmParents()) as parents:
        yield parents
    processes._prctl(processes._PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def run(tmp_path, faulty_environment, tiny_protocol, stop, parents):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"model")

    def run_fault(fault, wall_s=120.0, **options):
        job = {
            "kind": "measure",
            "phase": "latency",
            "runtime": "faults",
            "options": dict(options, fault=fault),
            "protocol": tiny_protocol.to_json(),
            "model": "model.onnx",
            "answer": "answer.json",
        }
        environment = child_environment(sys.executable, str(folder))
        parent = None if parents is None else parents.parent(KEY, environment)
        return run_child(job, str(folder), wall_s, stop, parent=parent)

    return run_fault


def test_a_successful_child_reports(run):
    assert len(run("none")["report"]["wall_ms"]) == 11


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("segfault", "crash", "SIGSEGV"),
        ("exit_code", "crash", "exit code 7"),
        ("exit_early", "protocol", "without an answer"),
        ("error", "crash", "RuntimeError: the runtime has a bug"),
        ("memory", "out_of_memory", "MemoryError"),
    ],
)
def test_failures_have_their_kind(run, fault, kind, message):
    with pytest.raises(MeasurementFailed, match=message) as caught:
        run(fault)
    assert caught.value.kind == kind
    assert not caught.value.transient


def test_output_is_part_of_the_error_and_never_an_answer(run):
    with pytest.raises(MeasurementFailed) as caught:
        run("segfault")
    assert "about to read address 0" in caught.value.details["output_tail"]
    assert caught.value.details["signal"] == "SIGSEGV"


def test_output_beyond_the_limit_is_lost_without_a_failure(run, tmp_path):
    assert run("chatty")["report"]
    assert os.path.getsize(str(tmp_path / "work" / "output.log")) == 16 << 20


def test_a_written_answer_survives_a_crash_at_exit(run):
    assert run("crash_at_exit")["report"]


def test_a_hanging_child_times_out_and_is_gone(run, tmp_path):
    with pytest.raises(MeasurementFailed) as caught:
        run("none", wall_s=1.5, gate="/never/there", note=str(tmp_path / "pid"))
    assert caught.value.kind == "timeout"
    assert processes.children() == set() or int((tmp_path / "pid").read_text()) not in processes.children()


def test_a_stop_kills_the_child_at_once(run, stop, tmp_path, until):
    thread = threading.Thread(target=lambda: until((tmp_path / "pid").exists) and stop.set())
    thread.start()
    with pytest.raises(Interrupted):
        run("none", gate="/never/there", note=str(tmp_path / "pid"))
    thread.join()


def test_an_escaped_grandchild_is_killed_and_does_not_block(run, tmp_path):
    """It left the session and holds every pipe open, so neither EOF nor killpg is enough."""
    processes.adopt_orphans()
    try:
        assert run("escape", note=str(tmp_path / "pid"))["report"]
    finally:
        processes._prctl(processes._PR_SET_CHILD_SUBREAPER, 0)
    assert processes.identify(int((tmp_path / "pid.escaped").read_text())) is None


@pytest.fixture
def promptly():
    """Fail a test that hangs: the time is a safety net."""
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(60)
    yield
    signal.alarm(0)


def _hangs(number, frame):
    raise AssertionError("it hangs")


@pytest.mark.parametrize("target", [None, "/dev/null", "job.json", "nowhere"])
def test_an_answer_that_is_no_file_is_a_protocol_failure(run, promptly, target):
    """A FIFO would block the agent for ever, and a link would have it read a file that the model may not read."""
    with pytest.raises(MeasurementFailed, match="the child's answer cannot be read: ") as caught:
        run("plant", gate=json.dumps({"answer.json": target}))
    assert caught.value.kind == "protocol"


@pytest.mark.parametrize("name", ["output.log", "job.json"])
def test_the_next_child_writes_through_no_link_that_an_earlier_one_left(run, tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("ours")
    with pytest.raises(MeasurementFailed, match="ended without an answer"):
        run("plant", gate=json.dumps({name: str(victim)}))
    assert run("none")["report"]
    assert victim.read_text() == "ours"


PLANTED = ["json.py", "encodings.py", "sitecustomize.py", "vitsearch_agent/__init__.py", "runpy.py"]


@pytest.mark.parametrize("name", PLANTED)
def test_the_next_child_runs_no_module_that_an_earlier_one_left(run, tmp_path, monkeypatch, name):
    """It would run before the child gives up its rights. An empty part of a path means the present folder."""
    for variable in ("PYTHONPATH", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(variable, os.pathsep + os.environ.get(variable, ""))
    module = tmp_path / "work" / name
    module.parent.mkdir(exist_ok=True)
    module.write_text(f"open({str(tmp_path / 'victim')!r}, 'w').close()\n")
    assert run("none")["report"]
    assert not (tmp_path / "victim").exists()


def test_another_python_finds_this_package_and_not_what_an_earlier_child_left(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "vitsearch_agent"
    package.mkdir(parents=True)
    monkeypatch.setattr(processes, "package_folder", lambda: str(package))
    (tmp_path / "work" / "package" / "vitsearch_agent").mkdir(parents=True)
    (tmp_path / "work" / "package" / "json.py").write_text("")
    environment = child_environment("/other/python", str(tmp_path / "work"))
    package_path = environment["PYTHONPATH"].split(os.pathsep)[0]
    assert os.listdir(package_path) == ["vitsearch_agent"]
    assert os.path.realpath(os.path.join(package_path, "vitsearch_agent")) == str(package)


def test_the_output_of_a_child_is_not_read_through_a_link(run, tmp_path, promptly):
    (tmp_path / "secret").write_text("secret")
    for target in (str(tmp_path / "secret"), None):
        with pytest.raises(MeasurementFailed) as caught:
            run("plant", gate=json.dumps({"output.log": target}))
        assert "output_tail" not in caught.value.details


def test_a_python_that_cannot_start_is_a_spawn_failure(tmp_path, stop):
    broken = tmp_path / "python"
    broken.write_bytes(b"\x7fELF but not really")
    broken.chmod(0o755)
    with pytest.raises(MeasurementFailed, match="cannot be started") as caught:
        run_child({"answer": "a"}, str(tmp_path), 60.0, stop, python=str(broken))
    assert caught.value.kind == "spawn"


INVALID_FAILURES = (b"3", b"{}", b'{"kind": "fire", "message": ""}', b'{"kind": "crash", "message": 1}')


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"report": NaN}', b"{" + b" " * (2 << 20) + b"}", b"not json"]
    + [b'{"failure": ' + failure + b"}" for failure in INVALID_FAILURES],
)
def test_garbage_is_a_protocol_failure(tmp_path, content):
    (tmp_path / "answer.json").write_bytes(content)
    with pytest.raises(MeasurementFailed) as caught:
        read_answer(str(tmp_path / "answer.json"))
    assert caught.value.kind == "protocol"


def test_the_environment_of_the_child_has_no_secrets(monkeypatch):
    monkeypatch.setenv("NANO_TOKEN", "secret")
    monkeypatch.setenv("CUDA_HOME", "/usr/local/cuda")
    environment = child_environment(sys.executable, "")
    assert "NANO_TOKEN" not in environment
    assert environment["CUDA_HOME"]


def test_a_stop_signal_can_be_set_often_and_cleared(stop):
    for _ in range(100_000):
        stop.set()
    assert stop.is_set()
    stop.clear()
    assert not stop.is_set()


def test_the_job_file_names_the_parent(run, tmp_path):
    run("none")
    assert json.loads((tmp_path / "work" / "job.json").read_text())["parent_pid"] == os.getpid()
