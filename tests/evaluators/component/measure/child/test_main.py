import os
import subprocess
import sys

from vitsearch_agent.base import processes

PRINT_LIMITS = """
import resource
from vitsearch_agent.measure.child import main
main._apply_limits()
print(resource.getrlimit(resource.RLIMIT_CORE)[0], resource.getrlimit(resource.RLIMIT_CPU)[0])
print(resource.getrlimit(resource.RLIMIT_NPROC)[0] in range(1, 16385))
print(resource.getrlimit(resource.RLIMIT_FSIZE)[0], open("/proc/self/oom_score_adj").read().strip())
"""


def test_limits_leave_cpu_time_unlimited_because_a_limit_makes_its_clock_coarse():
    result = subprocess.run(
        [sys.executable, "-c", PRINT_LIMITS],
        stdout=subprocess.PIPE,
        env=processes.with_package_path(dict(os.environ)),
        check=True,
    )
    assert result.stdout.decode().split() == ["0", "-1", "True", str(16 << 20), "1000"]


def test_a_child_without_its_parent_does_nothing(tmp_path):
    job = tmp_path / "job.json"
    job.write_text('{"parent_pid": 1, "answer": "answer.json"}')
    command = [sys.executable, "-m", "vitsearch_agent.measure.child.main", str(job)]
    environment = processes.with_package_path(dict(os.environ))
    assert subprocess.run(command, cwd=str(tmp_path), env=environment).returncode == 1
    assert os.listdir(str(tmp_path)) == ["job.json"]
