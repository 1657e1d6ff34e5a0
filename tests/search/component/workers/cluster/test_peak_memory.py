"""The memory of real processes."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vitsearch.workers.cluster import peak_memory as peaks
from vitsearch.workers.cluster.peak_memory import peak_memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
MB = 10**6
LONG_S = 4 * peaks.SAMPLE_S


def base_mb():
    gc.collect()  # what other tests have left could be freed between the two measurements
    with peak_memory() as peak:
        pass
    return peak.megabytes


def test_memory_that_is_free_again_at_the_end_counts():
    before = base_mb()
    with peak_memory() as peak:
        block = np.ones(300 * MB, np.uint8)
        time.sleep(LONG_S)
        del block
    assert 250 < peak.megabytes - before < 350


def test_a_file_that_is_read_through_a_map_does_not_count(tmp_path):
    np.save(tmp_path / "images.npy", np.ones(300 * MB, np.uint8))
    before = base_mb()
    with peak_memory() as peak:
        assert np.load(tmp_path / "images.npy", mmap_mode="r").sum() == 300 * MB
        time.sleep(LONG_S)
    assert peak.megabytes - before < 50


def test_a_program_that_the_stage_starts_counts():
    before = base_mb()
    code = "import time; held = bytearray(b'x') * 300_000_000; print(flush=True); time.sleep(60)"
    with peak_memory() as peak, subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        time.sleep(LONG_S)
        child.kill()
    assert 250 < peak.megabytes - before < 400


def test_without_proc_nothing_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(peaks, "PROC", tmp_path)
    assert base_mb() is None
