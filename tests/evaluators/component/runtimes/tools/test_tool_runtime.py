"""Programs of other people that measure: they end with the process that started them."""

import signal
import subprocess
import sys
import time

import pytest

PATIENCE_S = 60.0
CODE = """
from vitsearch_agent.runtimes.tools.tool_runtime import run_tool

run_tool(["sh", "-c", "echo $$ > pid; exec sleep 600"])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux kills a process with its parent")
def test_a_program_is_killed_with_the_process_that_started_it(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", CODE], cwd=str(tmp_path))
    end, path = time.monotonic() + PATIENCE_S, tmp_path / "pid"
    while not (path.exists() and path.read_text().strip()) and time.monotonic() < end:
        time.sleep(0.01)
    program = int(path.read_text())
    child.send_signal(signal.SIGKILL)
    child.wait()
    while is_running(program) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_running(program)


def is_running(pid):
    """Whether a process is there and has not ended; nobody may have asked for its exit code yet."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
