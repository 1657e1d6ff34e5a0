"""Jobs that fail on the device, without a device."""

import pytest

from vitsearch_agent.client.remote_job import RemoteJob, RequestOptions
from vitsearch_agent.client.retry import Backoff, RetryPolicy
from vitsearch_agent.errors import TransferFailed
from vitsearch_agent.wire.protocol import SCREEN, BlobRef, DeviceInfo, JobSpec, JobStatus, Owner

SPEC = JobSpec("measure", (BlobRef("model.onnx", "ab" * 32, 1),), "noop", {}, SCREEN)
FULL = TransferFailed("no room for 40000000 bytes", {"reason": "no_space"})


INFO = DeviceInfo(3, 3, "0", "id", "physical", "ef" * 32, {}, (), ("measure",), 2_000_000, 0, 0)


class Endpoints:
    """A device whose jobs all fail because its disk is full."""

    runs = 0

    def put_job(self, identifier, body):
        self.runs += 1
        return JobStatus(identifier, "queued", Owner("s"), 0, None, None)

    def job(self, identifier, wait_s):
        return JobStatus(identifier, "failed", Owner("s"), 1, FULL.to_json(), None)


def test_a_job_that_fails_each_time_is_not_repeated_for_ever():
    device = Endpoints()
    policy = RetryPolicy(Backoff(0.0, 0.0), 60.0, None)
    with pytest.raises(TransferFailed, match="no room"):
        RemoteJob(device, None, Owner("s")).result(SPEC, RequestOptions(), INFO, policy)
    assert device.runs == 5
