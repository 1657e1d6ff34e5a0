import sys

import pytest

from vitsearch_evaluators.system import System, run_command


def test_reads_below_its_root(tmp_path):
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "temp").write_text("48300\n")
    system = System(str(tmp_path))
    assert system.read("/sys/temp").text == "48300"
    assert system.number("/sys/temp") == 48300.0
    assert system.glob("/sys/*") == ["/sys/temp"]


def test_what_cannot_be_read_has_a_reason(tmp_path):
    reading = System(str(tmp_path)).read("/sys/temp")
    assert reading.text is None
    assert "/sys/temp cannot be read: No such file" in reading.reason


def test_text_is_no_number(tmp_path):
    (tmp_path / "mode").write_text("powersave")
    assert System(str(tmp_path)).number("/mode") is None


def test_runs_a_command():
    assert run_command([sys.executable, "-c", "print(6 * 7)"]) == ("42\n", None)


def test_a_command_that_fails_says_how():
    done = run_command([sys.executable, "-c", "import sys; sys.exit('no such rail')"])
    assert "ended with 1: no such rail" in done.reason


def test_a_missing_command_is_a_reason():
    assert "no-such-tool cannot be run" in run_command(["no-such-tool"]).reason


def test_an_endless_command_is_ended():
    done = run_command([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.2)
    assert "did not end within 0.2 s" in done.reason


@pytest.mark.parametrize(
    ("text", "number", "counter"),
    [("42", 42.0, 42), ("-256000", -256000.0, None), ("1.5", 1.5, None), ("nan", None, None), ("1e999", None, None)],
)
def test_numbers_and_counters(tmp_path, text, number, counter):
    (tmp_path / "file").write_text(text)
    system = System(str(tmp_path))
    assert (system.number("/file"), system.counter("/file")) == (number, counter)
