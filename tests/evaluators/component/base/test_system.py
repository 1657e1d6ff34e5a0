import os
import signal
import subprocess
import sys

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.base.system import NoStream, Stream, System, run_command, user_cache_folder


def test_reads_files_below_its_root(tmp_path):
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "temp").write_text("48300\n")
    system = System(str(tmp_path))
    assert system.read("/sys/temp").text == "48300"
    assert system.number("/sys/temp") == 48300.0
    assert system.glob("/sys/*") == ["/sys/temp"]


def test_the_root_may_have_brackets_in_its_name(tmp_path):
    root = tmp_path / "[board] *"
    (root / "sys").mkdir(parents=True)
    (root / "sys" / "temp").write_text("48300\n")
    assert System(str(root)).glob("/sys/t*") == ["/sys/temp"]


def test_an_unreadable_file_gives_a_reason(tmp_path):
    reading = System(str(tmp_path)).read("/sys/temp")
    assert reading.text is None
    assert "/sys/temp cannot be read: No such file" in reading.reason


def test_a_file_with_text_has_no_number(tmp_path):
    (tmp_path / "mode").write_text("powersave")
    assert System(str(tmp_path)).number("/mode") is None


def test_runs_a_command():
    assert run_command([sys.executable, "-c", "print(6 * 7)"]) == ("42\n", None)


def test_a_failing_command_gives_its_exit_code_and_message():
    done = run_command([sys.executable, "-c", "import sys; sys.exit('no such rail')"])
    assert "ended with 1: no such rail" in done.reason


def test_a_missing_command_gives_a_reason():
    assert "no-such-tool cannot be run" in run_command(["no-such-tool"]).reason


def test_a_command_is_ended_after_its_timeout():
    done = run_command([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.2)
    assert "did not end within 0.2 s" in done.reason


@pytest.mark.parametrize(
    ("text", "number", "counter"),
    [("42", 42.0, 42), ("-256000", -256000.0, None), ("1.5", 1.5, None), ("nan", None, None), ("1e999", None, None)]
    + [("1_000", None, None), ("\u0661\u0662", None, None), ("48.3'C", None, None), ("0x1f", None, None)],
)
def test_numbers_and_counters(tmp_path, text, number, counter):
    (tmp_path / "file").write_text(text)
    system = System(str(tmp_path))
    assert (system.number("/file"), system.counter("/file")) == (number, counter)


PRINTS = "import time\nfor i in range(10**6):\n    print('line', i, flush=True)\n    time.sleep(0.01)"


def test_a_stream_passes_on_each_line_and_ends_the_tool(until):
    received, before = [], processes.children()
    stream = Stream([sys.executable, "-c", PRINTS], received.append)
    until(lambda: len(received) >= 3, "three lines")
    assert received[:3] == ["line 0", "line 1", "line 2"]
    assert stream.ended() is None
    stream.close()
    stream.close()
    assert stream.ended() == f"{sys.executable} has ended"
    assert processes.children() <= before


def test_a_tool_that_ignores_sigterm_is_killed(until):
    received, before = [], processes.children()
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PRINTS
    stream = Stream([sys.executable, "-c", script], received.append)
    until(lambda: received, "a line")
    stream.close()
    assert processes.children() <= before


def test_a_stream_reports_that_its_tool_ended_or_is_missing(until):
    received = []
    stream = Stream([sys.executable, "-c", "print('once')"], received.append)
    until(stream.ended, "the end")
    assert received == ["once"]
    stream.close()
    assert "no-such-tool cannot be run: No such file" in Stream(["no-such-tool"], received.append).ended()
    assert "no-such-tool cannot be run: it does not exist" in NoStream(["no-such-tool"], received.append).ended()


def test_a_tool_ends_soon_after_its_agent_is_killed(until, tmp_path):
    note = str(tmp_path / "pid")
    tool = f"import os; open({note!r}, 'w').write(str(os.getpid()))\n{PRINTS}"
    agent = (
        "import sys, time\nfrom vitsearch_agent.base.system import Stream\n"
        f"stream = Stream([sys.executable, '-c', {tool!r}], lambda line: print(line, flush=True))\ntime.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", agent], stdout=subprocess.PIPE, env=processes.with_package_path(dict(os.environ))
    )
    with process.stdout:
        assert process.stdout.readline().startswith(b"line")
        with open(note) as stream:
            pid = int(stream.read())
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: processes.identify(pid) is None, "the tool to end")


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/home/me"}, "/x/vitsearch"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/vitsearch"),
        ({}, os.path.expanduser("~/.cache/vitsearch")),
    ],
    ids=["variable", "relative variable", "none"],
)
def test_the_cache_folder_of_a_user_follows_the_specification(environ, folder):
    assert user_cache_folder(environ) == folder
