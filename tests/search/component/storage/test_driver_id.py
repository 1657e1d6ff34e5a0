"""A driver counts as dead only when that is certain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from support import PYTHON_PATH
from vitsearch.storage import driver_id
from vitsearch.storage.driver_id import DriverId


@pytest.fixture
def ended():
    """The identity of a real process that has ended."""
    code = (
        "import json; from vitsearch.storage.driver_id import DriverId; print(json.dumps(DriverId.current().to_json()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONPATH": PYTHON_PATH}
    )
    return DriverId.from_json(json.loads(done.stdout))


def test_this_process_is_alive():
    assert not DriverId.current().is_dead_here()
    assert DriverId.current().lives_here()


def test_a_process_on_another_machine_does_not_live_here(ended):
    assert not replace(DriverId.current(), host="elsewhere").lives_here()
    assert not ended.lives_here()


def test_a_process_that_ended_is_dead(ended):
    assert ended.host == DriverId.current().host
    assert ended.is_dead_here()


def test_another_process_with_the_same_pid_means_dead():
    assert replace(DriverId.current(), started="1").is_dead_here()


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    me = replace(DriverId.current(), pid=child.pid, started=driver_id._started(child.pid) or "")
    child.stdout.read()  # the child has ended, or is about to; its exit status is not collected yet
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert me.is_dead_here()
    child.wait()
    child.stdout.close()


def test_a_driver_from_before_a_reboot_is_dead():
    assert replace(DriverId.current(), boot="another boot").is_dead_here()


def test_a_driver_on_another_machine_is_not_called_dead():
    assert not replace(DriverId.current(), host="elsewhere", boot="other", pid=1, started="1").is_dead_here()


@pytest.mark.parametrize("machine", ["another id", ""])
def test_another_machine_or_container_of_the_same_name_is_not_called_dead(machine):
    """Cloned machines share a name, and containers may share that of their host and have process ids of their own."""
    other = replace(DriverId.current(), machine=machine, boot="another boot", started="1")
    assert not other.is_dead_here()
    assert not other.lives_here()


def test_two_runs_of_one_process_differ():
    assert DriverId.current() != DriverId.current()


def test_json_round_trip():
    me = DriverId.current()
    assert DriverId.from_json(me.to_json()) == me


def test_without_proc_the_pid_decides(tmp_path, monkeypatch, ended):
    monkeypatch.setattr(driver_id, "PROC", tmp_path / "none")
    me = DriverId.current()
    assert not me.is_dead_here()
    assert replace(me, pid=ended.pid).is_dead_here()


def test_a_process_that_proc_hides_from_other_users_is_not_called_dead(tmp_path, monkeypatch, ended):
    """`hidepid=2` and `ProtectProc=invisible` leave `/proc` without the processes of others."""

    def refused(pid, signal):
        raise PermissionError(pid)

    monkeypatch.setattr(driver_id, "PROC", tmp_path)
    hidden = replace(DriverId.current(), started="1")
    assert hidden.lives_here()
    assert replace(hidden, pid=ended.pid).is_dead_here()
    monkeypatch.setattr(os, "kill", refused)
    assert hidden.lives_here()
