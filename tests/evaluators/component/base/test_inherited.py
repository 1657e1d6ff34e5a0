"""What a process passes on, read and restored in real processes: limits cannot be tried on the one that runs tests."""

import os
import subprocess
import sys

import pytest

from vitsearch_agent.base import inherited, processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")

CHANGE = """
import os, resource
from vitsearch_agent.base import inherited
from vitsearch_agent.errors import AgentError
if {user}:
    os.setgroups([]), os.setgid({user}), os.setuid({user})
before = inherited.read()
assert inherited.restore(before) == []
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
os.nice({nice})
try:
    print(len(inherited.restore(before)), inherited.read() == before)
except AgentError as error:
    print(error)
"""


def changed(**values):
    command = [sys.executable, "-c", CHANGE.format(**values)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=processes.with_package_path(dict(os.environ)))
    return done.stdout.decode()


@pytest.mark.skipif(len(inherited.read().processors) < 2, reason="needs two processors")
def test_what_this_user_may_restore_is_restored():
    assert changed(user=0, nice=0) == "2 True\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, and restore a priority")
def test_a_priority_that_this_user_cannot_restore_is_named():
    assert "nice value from 0 to 3), and it cannot change it back: start the agent again" in changed(user=12345, nice=3)
    assert changed(user=0, nice=3).endswith(" True\n")


def test_umask_and_signals_are_read_too():
    before = inherited.read()
    mask = os.umask(0o27)
    try:
        assert inherited.read() != before
    finally:
        os.umask(mask)
    assert inherited.read() == before
