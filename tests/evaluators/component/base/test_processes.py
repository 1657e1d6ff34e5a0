import os
import signal
import subprocess
import sys
import threading

from vitsearch_agent.base import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_process_with_the_same_pid_and_another_start_is_not_killed():
    with subprocess.Popen(SLEEP) as child:
        identity = processes.identify(child.pid)
        assert not processes.kill_if_same(identity._replace(start_ticks=identity.start_ticks - 1))
        assert not processes.kill_if_same(identity._replace(boot_id="another boot"))
        assert child.poll() is None
        assert processes.kill_if_same(identity)
        assert child.wait() == -signal.SIGKILL


def test_a_zombie_counts_as_ended(until):
    child = subprocess.Popen(SLEEP)
    identity = processes.identify(child.pid)
    child.kill()
    until(lambda: processes._stat(child.pid)[0] == "Z")
    assert processes.identify(child.pid) is None
    assert not processes.kill_if_same(identity)
    child.wait()


def test_sweep_kills_only_the_children_that_are_not_kept():
    with subprocess.Popen(SLEEP) as ours:
        keep = processes.children()
        stray = subprocess.Popen(SLEEP)
        assert processes.sweep(keep) == 1
        assert stray.poll() is not None
        assert ours.poll() is None
        ours.kill()


def test_a_child_dies_with_the_thread_that_started_it():
    """PR_SET_PDEATHSIG refers to the parent thread, not the process; so the worker is one thread that stays."""
    script = (
        "import sys, time; from vitsearch_agent.base import processes;"
        f"processes.die_with_parent({os.getpid()}); print('ready', flush=True); time.sleep(600)"
    )
    started = []

    def start_and_end():
        child = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            env=processes.with_package_path(dict(os.environ)),
        )
        child.stdout.readline()
        started.append(child)

    thread = threading.Thread(target=start_and_end)
    thread.start()
    thread.join()
    with started[0] as child:
        assert child.wait(60) == -signal.SIGKILL


def test_die_with_parent_detects_a_parent_that_ended_earlier():
    assert not processes.die_with_parent(os.getppid() + 1)
    processes._prctl(processes._PR_SET_PDEATHSIG, 0)


def test_package_path_is_added_only_outside_site_packages(monkeypatch):
    monkeypatch.setattr(processes, "__file__", "/src/evaluators/vitsearch_agent/base/processes.py")
    assert processes.with_package_path({"PYTHONPATH": "/a"}) == {"PYTHONPATH": "/src/evaluators:/a"}
    monkeypatch.setattr(processes, "__file__", "/usr/lib/site-packages/vitsearch_agent/base/processes.py")
    assert processes.with_package_path({"A": "b"}) == {"A": "b"}
