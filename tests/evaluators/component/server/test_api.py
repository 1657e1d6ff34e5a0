import pytest

from vitsearch_agent.errors import NotFound
from vitsearch_agent.server.api import checked_id
from vitsearch_agent.wire.device_info import DeviceInfo
from vitsearch_agent.wire.protocol import JOB_KINDS


@pytest.mark.parametrize("text", ["", "..", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_only_digests_are_valid_ids(text):
    with pytest.raises(NotFound):
        checked_id(text)


def test_device_describes_itself(ask):
    status, body, _ = ask("GET", "/v1/device")
    info = DeviceInfo.from_json(body)
    assert status == 200
    assert (info.api_min, info.api_max, info.kind) == (5, 5, "physical")
    assert info.job_kinds == JOB_KINDS
    assert {runtime.name for runtime in info.runtimes} >= {"onnxruntime", "noop"}
    assert all(runtime.version if runtime.available else runtime.reason for runtime in info.runtimes)


@pytest.mark.parametrize("wait", ["x", "nan", "-1"])
def test_invalid_waits_are_refused(ask, wait):
    assert ask("GET", "/v1/jobs/" + "a" * 64 + f"?wait={wait}")[0] in (400, 404)


def test_plugin_runtimes_are_listed(faulty_client):
    assert "faults" in {runtime.name for runtime in faulty_client.device().runtimes}
