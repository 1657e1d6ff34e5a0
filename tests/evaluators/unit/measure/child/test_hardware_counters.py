import os
import struct

from vitsearch_agent.measure.child.hardware_counters import HardwareCounters
from vitsearch_agent.wire.processor_counters import Counters


def test_missing_counters_have_a_reason_and_do_nothing():
    def refuse(_event):
        raise OSError(2, os.strerror(2))

    counters = HardwareCounters(refuse)
    counters.start()
    counters.stop()
    assert counters.per_run(10) is None
    assert counters.reason == "the processor's counters cannot be read: No such file or directory"


def test_a_counter_that_cannot_be_opened_closes_the_one_before(tmp_path):
    opened = []

    def first_only(event):
        if opened:
            raise OSError(13, os.strerror(13))
        opened.append(os.open(tmp_path, os.O_RDONLY))
        return opened[0]

    assert "Permission denied" in HardwareCounters(first_only).reason
    assert not os.path.exists(f"/proc/self/fd/{opened[0]}")


def test_counts_are_given_in_millions_for_each_run(tmp_path):
    counts = iter([struct.pack("=Q", 40_000_000), struct.pack("=Q", 20_000_000)])

    def recorded(event):
        path = tmp_path / str(event)
        path.write_bytes(next(counts))
        return os.open(path, os.O_RDONLY)

    assert HardwareCounters(recorded).per_run(10) == Counters(4.0, 2.0)


def test_this_machine_counts_or_says_why_not():
    counters = HardwareCounters()
    counters.start()
    sum(range(100_000))
    counters.stop()
    counted = counters.per_run(1)
    assert (counted is None) == (counters.reason is not None)
    assert counted is None or counted.instructions_m > 0.1
