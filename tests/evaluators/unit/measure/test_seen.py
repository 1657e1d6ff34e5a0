import os
import subprocess
import sys

from vitsearch_agent.measure.seen import PeakMemory, Seen, children_cpu_s

FORGETS = """
import sys
used = bytearray(200 << 20)
used[::4096] = b"x" * len(used[::4096])
print(flush=True), sys.stdin.readline()
del used
open("/proc/self/clear_refs", "w").write("5")
print(flush=True), sys.stdin.readline()
"""


def test_the_peak_of_a_process_stays_known_when_the_kernel_forgets_it():
    memory = PeakMemory()
    with subprocess.Popen([sys.executable, "-c", FORGETS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        for _ in range(2):
            child.stdout.readline()
            memory.read(child.pid)
            child.stdin.write(b"\n")
            child.stdin.flush()
    assert 200 < memory.mb < 300
    memory.read(child.pid)
    assert memory.mb > 200, "a process that has ended changes nothing"


def test_the_processor_time_of_a_child_counts_when_it_has_ended():
    before = children_cpu_s()
    subprocess.check_call([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"])
    assert children_cpu_s() - before > 0.15


def test_what_was_seen_is_kept_and_read_again():
    seen = Seen(1.0, 3.5, 2.0, None)
    assert (Seen.from_json(seen.to_json()), seen.wall_s) == (seen, 2.5)
    memory = PeakMemory()
    memory.read(os.getpid())
    assert memory.mb > 1
