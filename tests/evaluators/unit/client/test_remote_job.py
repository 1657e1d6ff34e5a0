"""Jobs that fail on the device, without a device."""

import threading

import pytest

from vitsearch_agent.client.remote_job import RemoteJob, RequestOptions
from vitsearch_agent.client.retry import Backoff, RetryPolicy
from vitsearch_agent.errors import EnvironmentChanged, JobCancelled, TransferFailed
from vitsearch_agent.wire.protocol import SCREEN, BlobRef, DeviceInfo, JobSpec, JobStatus, Owner

SPEC = JobSpec("measure", (BlobRef("model.onnx", "ab" * 32, 1),), "noop", {}, SCREEN)
FULL = TransferFailed("no room for 40000000 bytes", {"reason": "no_space"})


INFO = DeviceInfo(3, 3, "0", "id", "physical", "ef" * 32, {}, (), ("measure",), 2_000_000, 0, 0)


CHANGED = EnvironmentChanged("the device changed during the measurement", {"wanted": "ab" * 32, "actual": "cd" * 32})


class Endpoints:
    """A device whose jobs all fail with an error."""

    def __init__(self, error):
        self.error = error
        self.runs = 0

    def put_job(self, identifier, body, asker):
        self.runs += 1
        assert self.runs < 20, "it is repeated for ever"
        return JobStatus(identifier, "queued", Owner("s"), 0, None, None)

    def job(self, identifier, wait_s):
        return JobStatus(identifier, "failed", Owner("s"), 1, self.error.to_json(), None)


@pytest.mark.parametrize("error", [FULL, CHANGED], ids=["no room", "another environment"])
def test_a_job_that_fails_each_time_is_not_repeated_for_ever(error):
    device = Endpoints(error)
    policy = RetryPolicy(Backoff(0.0, 0.0), 60.0, None)
    with pytest.raises(type(error), match=error.message):
        RemoteJob(device, None, Owner("s")).result(SPEC, RequestOptions(), INFO, policy)
    assert device.runs == 5


class Slow:
    """A device on which a job is always queued. Notes who asks and who gives up."""

    def __init__(self, cancel):
        self._cancel = cancel
        self.asked, self.gave_up = [], []

    def put_job(self, identifier, body, asker):
        self.asked.append(asker)
        return JobStatus(identifier, "queued", Owner("s"), 0, None, None)

    def job(self, identifier, wait_s):
        self._cancel.set()
        return JobStatus(identifier, "queued", Owner("s"), 0, None, None)

    def cancel(self, identifier, asker):
        self.gave_up.append(asker)


def test_each_client_gives_up_a_job_under_a_name_of_its_own():
    cancel = threading.Event()
    device = Slow(cancel)
    for _ in range(2):
        cancel.clear()
        with pytest.raises(JobCancelled):
            RemoteJob(device, None, Owner("s")).result(
                SPEC, RequestOptions(), INFO, RetryPolicy(Backoff(0.0, 0.0), 60.0, cancel)
            )
    assert device.gave_up == device.asked
    assert len(set(device.asked)) == 2
