import os
import subprocess
import sys

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.server import log_file

LOG_MUCH = """
import logging, sys
from vitsearch_agent.server import log_file
logging.basicConfig(format="%(message)s")
log_file.FILE_MAX_BYTES = 1000
log_file.limit_size(sys.argv[1])
for number in range(500):
    logging.warning("line %d", number)
"""


@pytest.mark.parametrize("mode", ["ab", "wb"])
def test_the_size_of_a_log_file_is_limited(tmp_path, mode):
    path = tmp_path / log_file.FILE_NAME
    with path.open(mode) as log:
        command = [sys.executable, "-c", LOG_MUCH, str(path)]
        subprocess.run(command, stderr=log, env=processes.with_package_path(dict(os.environ)), check=True)
    kept = [(tmp_path / name).read_bytes() for name in ("agent.log.1", "agent.log")]
    assert sorted(os.listdir(str(tmp_path))) == ["agent.log", "agent.log.1"]
    assert all(len(content) < 1100 for content in kept)
    numbers = [int(line.split()[1]) for line in b"".join(kept).splitlines()]
    assert numbers == list(range(500 - len(numbers), 500))


def test_a_file_that_is_not_stderr_is_not_changed(tmp_path):
    path = tmp_path / log_file.FILE_NAME
    path.write_bytes(b"x" * 5000)
    command = [sys.executable, "-c", LOG_MUCH, str(path)]
    subprocess.run(command, stderr=subprocess.DEVNULL, env=processes.with_package_path(dict(os.environ)), check=True)
    assert path.read_bytes() == b"x" * 5000
