"""What the log of a dead worker says about its death."""

from __future__ import annotations

import pytest

from vitsearch.workers.crash_log import SIGNALS, NativeCrash

TRACE = """\
step 3
free(): invalid pointer
Fatal Python error: {}

Stack (most recent call first):
  File "graph.py", line 829 in _engine_run_backward
  File "__init__.py", line 364 in backward
  File "_tensor.py", line 630 in backward
  File "fine_tune.py", line 225 in _train

Extension modules: numpy, torch (total: 2)
"""


@pytest.mark.parametrize("words", SIGNALS)
def test_the_signal_and_the_lines_about_the_crash_are_found(tmp_path, words):
    log = tmp_path / "train.log"
    log.write_text("loading\n" + TRACE.format(words))
    crash = NativeCrash.read(log)
    assert crash is not None
    assert crash.signal == SIGNALS[words]
    assert crash.last_lines == (
        "step 3",
        "free(): invalid pointer",
        f"Fatal Python error: {words}",
        'File "graph.py", line 829 in _engine_run_backward',
        'File "__init__.py", line 364 in backward',
        'File "_tensor.py", line 630 in backward',
    )
    assert crash.evidence.endswith(f"; log: {log}")


@pytest.mark.parametrize("written", ["", "a warning\n", "Fatal Python error: init_import_site: Failed\n"])
def test_a_log_without_a_signal_is_not_a_native_crash(tmp_path, written):
    (tmp_path / "train.log").write_text(written)
    assert NativeCrash.read(tmp_path / "train.log") is None


def test_a_worker_that_died_before_its_log_was_opened_is_not_a_native_crash(tmp_path):
    assert NativeCrash.read(tmp_path / "train.log") is None
