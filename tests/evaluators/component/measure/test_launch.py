"""The choice of the Python interpreter and the tool that run a runtime."""

import stat
import subprocess
import sys

import pytest

from vitsearch_agent import runtimes
from vitsearch_agent.base import processes
from vitsearch_agent.base.system import THIS_MACHINE, Output
from vitsearch_agent.config import RUNTIME_DEFAULT, RuntimeConfig
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.measure import launch
from vitsearch_agent.measure.child_checks import check_runtime
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.launch import Launch, candidates
from vitsearch_agent.runtimes.noop import NoopRuntime


class LibraryRuntime(NoopRuntime):
    name = "library"
    libraries = ("no_such_module",)


class ToolRuntime(NoopRuntime):
    name = "tool"
    tools = ("no-such-tool", "/nowhere/no-such-tool")


@pytest.fixture
def own_runtimes(monkeypatch):
    kinds = {"library": LibraryRuntime, "tool": ToolRuntime}
    monkeypatch.setattr(runtimes, "create", lambda name: kinds[name]())


def system_where(has_library):
    """A machine whose system Python finds a module, or not."""
    return THIS_MACHINE._replace(run=lambda argv: Output("", None if has_library else "ended with 3"))


def test_a_runtime_without_needs_runs_in_the_agents_python(own_runtimes):
    (only,) = candidates("noop", RUNTIME_DEFAULT, system_where(True))
    assert only == (Launch(sys.executable), None)


def test_the_systems_python_is_a_candidate_if_it_has_the_library(own_runtimes):
    own, other = candidates("library", RUNTIME_DEFAULT, system_where(True))
    assert own.reason == f"module not found in {sys.executable}: no_such_module"
    assert other == (Launch(launch.SYSTEM_PYTHON), None)
    assert len(list(candidates("library", RUNTIME_DEFAULT, system_where(False)))) == 1


def test_a_configured_python_is_the_only_one(own_runtimes):
    config = RuntimeConfig(python="/opt/python")
    assert list(candidates("library", config, system_where(True))) == [(Launch("/opt/python"), None)]


def test_a_tool_is_configured_or_on_the_path_or_missing(own_runtimes, tmp_path, monkeypatch):
    (missing,) = candidates("tool", RUNTIME_DEFAULT, THIS_MACHINE)
    assert missing.reason.startswith("program not found: no-such-tool or /nowhere/no-such-tool")
    tool = tmp_path / "no-such-tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(stat.S_IRWXU)
    (configured,) = candidates("tool", RuntimeConfig(tool=str(tool)), THIS_MACHINE)
    monkeypatch.setenv("PATH", str(tmp_path))
    (on_path,) = candidates("tool", RUNTIME_DEFAULT, THIS_MACHINE)
    assert configured.launch.program == on_path.launch.program == str(tool)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("noop", RuntimeConfig(tool="/bin/true"), "runtimes.noop.tool: noop is not a tool"),
        ("trtexec", RuntimeConfig(python="/usr/bin/python3"), "runtimes.trtexec.python: trtexec is a tool"),
    ],
)
def test_a_setting_without_effect_is_refused(own_runtimes, name, config, message):
    with pytest.raises(InvalidRequest, match=message):
        next(candidates(name, config, THIS_MACHINE))


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be started: "), ("#!/bin/sh\necho no Python at all\nexit 5\n", "exit code 5: no Python at all")],
)
def test_a_wrong_interpreter_gives_one_reason_on_one_line(tmp_path, text, message):
    python = tmp_path / "python"
    if text is not None:
        python.write_text(text)
        python.chmod(stat.S_IRWXU)
    info = check_runtime("noop", JobFolder(str(tmp_path), StopSignal()), RuntimeConfig(python=str(python)))
    assert not info.available
    assert str(python) in info.reason
    assert message in info.reason
    assert "\n" not in info.reason


def test_a_configured_interpreter_measures_and_is_reported(serve_agent, blob, tiny_protocol, python_of):
    other = python_of("3.8")
    served = serve_agent(config={"runtimes": {"noop": {"python": other}, "onnxruntime": {"python": "/no/python"}}})
    with served.client() as client:
        measurement = client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
        infos = {runtime.name: runtime for runtime in client.device().runtimes}
    assert measurement.latency_ms.n == 11
    assert infos["noop"].program == other
    assert infos["onnxruntime"].reason.startswith("/no/python cannot be started")


def test_another_python_imports_this_package_and_none_of_its_neighbours(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    (site / "vitsearch_agent").mkdir(parents=True)
    (site / "vitsearch_agent" / "__init__.py").write_text("")
    (site / "other.py").write_text("")
    monkeypatch.setattr(processes, "__file__", str(site / "vitsearch_agent" / "base" / "processes.py"))
    assert "PYTHONPATH" not in processes.with_package_path({})
    for _ in range(2):
        environment = processes.with_package_path({}, str(tmp_path / "alone"))
    script = "import importlib.util as u; print([n for n in ('vitsearch_agent', 'other') if u.find_spec(n)])"
    seen = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, cwd="/", check=True)
    assert seen.stdout.decode().strip() == "['vitsearch_agent']"
