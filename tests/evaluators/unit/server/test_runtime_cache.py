import os

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.config import NO_CONFIG, AgentConfig, RuntimeConfig
from vitsearch_agent.server import runtime_cache
from vitsearch_agent.server.runtime_cache import FRESH_S, RuntimeCache
from vitsearch_agent.wire.device_info import RuntimeInfo

FOUND = (RuntimeInfo("noop", True, None, "1", ()), RuntimeInfo("onnxruntime", False, "no module", None, ()))


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def cache(tmp_path, now):
    cache = RuntimeCache(str(tmp_path / "runtimes.json"), NO_CONFIG, clock=lambda: now[0])
    cache.keep(FOUND)
    return cache


def test_fresh_results_are_used(cache, now):
    now[0] += FRESH_S - 1
    assert cache.load() == FOUND


def test_old_results_are_not_used(cache, now):
    now[0] += FRESH_S + 1
    assert cache.load() is None
    now[0] = 5.0
    assert cache.load() is None


def test_results_are_not_used_after_a_reboot_an_installation_or_a_changed_configuration(
    cache, tmp_path, now, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(processes, "boot_id", lambda: "another boot")
        assert cache.load() is None
    with monkeypatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", "/opt/other")
        assert cache.load() is None
    (tmp_path / "site-packages").mkdir()
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site-packages"))
        cache.keep(FOUND)
        assert cache.load() == FOUND
        os.utime(str(tmp_path / "site-packages"), (1, 1))
        assert cache.load() is None
    cache.keep(FOUND)
    other = AgentConfig({"trtexec": RuntimeConfig(tool="/opt/trtexec")})
    assert RuntimeCache(str(tmp_path / "runtimes.json"), other, clock=lambda: now[0]).load() is None


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_results_are_not_used_after_a_tool_is_installed_or_replaced(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    cache.keep(FOUND)
    assert cache.load() == FOUND
    tool = program(tmp_path / "bin" / "trtexec")
    assert cache.load() is None
    cache.keep(FOUND)
    assert cache.load() == FOUND
    os.utime(str(tool), (1, 1))
    assert cache.load() is None


@pytest.mark.parametrize("key", ["python", "tool"])
def test_results_are_not_used_after_a_configured_program_appears(tmp_path, key):
    path = tmp_path / "opt" / "bin" / "program"
    cache = RuntimeCache(
        str(tmp_path / "runtimes.json"), AgentConfig({"onnxruntime": RuntimeConfig(**{key: str(path)})})
    )
    cache.keep(FOUND)
    assert cache.load() == FOUND
    program(path)
    assert cache.load() is None


def test_results_are_not_used_after_an_installation_for_a_configured_interpreter(tmp_path):
    """The interpreter itself stays as it is."""
    python = program(tmp_path / "venv" / "bin" / "python")
    packages = tmp_path / "venv" / "lib" / "python3.8" / "site-packages"
    packages.mkdir(parents=True)
    config = AgentConfig({"onnxruntime": RuntimeConfig(python=str(python))})
    cache = RuntimeCache(str(tmp_path / "runtimes.json"), config)
    cache.keep(FOUND)
    assert cache.load() == FOUND
    os.utime(str(packages), (1, 1))
    assert cache.load() is None


def test_no_results_are_left_after_they_are_forgotten(cache, tmp_path):
    cache.forget()
    assert cache.load() is None
    assert not (tmp_path / "runtimes.json").exists()
    cache.forget()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"key": 1, "clock": 0, "runtimes": 7}'])
def test_an_unreadable_file_counts_as_missing(cache, tmp_path, content, monkeypatch):
    monkeypatch.setattr(runtime_cache.RuntimeCache, "_key", lambda self: 1)
    (tmp_path / "runtimes.json").write_bytes(content)
    assert cache.load() is None


def test_a_failed_write_is_ignored(tmp_path):
    cache = RuntimeCache(str(tmp_path / "nowhere" / "runtimes.json"), NO_CONFIG)
    cache.keep(FOUND)
    assert cache.load() is None
