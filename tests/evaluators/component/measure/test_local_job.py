import os

import pytest

from vitsearch_agent.measure.local_job import Request, local_job


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system has no /proc")
def test_a_job_leaves_no_file_open(blob, tiny_protocol):
    def run():
        with local_job("measure", {"model.onnx": blob}, Request("noop", {}, tiny_protocol)):
            pass
        return len(os.listdir("/proc/self/fd"))

    assert run() == run()
