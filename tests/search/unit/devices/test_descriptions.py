"""Descriptions of devices: those that ship, and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import REPOSITORY
from vitsearch.core.targets import TARGETS
from vitsearch.devices import descriptions
from vitsearch.errors import ResourceError, UnknownName
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.conditions.environment import environment_id, fingerprint
from vitsearch_agent.power import AUTOMATIC, BY_NAME

NANO = "jetson_nano"


@pytest.fixture(params=descriptions.shipped())
def shipped(request):
    return descriptions.find(request.param)


def test_the_devices_of_the_shipped_spaces_are_described():
    assert set(descriptions.shipped()) >= {
        *("android", "intel_cpu", "iphone", "jetson_nano", "jetson_orin_nano", "raspberry_pi5"),
    }


def test_a_description_says_where_it_is_from_and_when(shipped):
    assert "2026-11-26" in shipped.sources["description"]
    assert "not recorded" in shipped.sources["description"]
    assert {"versions", "device"} & set(shipped.sources)
    assert any("cores" in part for part in shipped.sources)


def test_a_description_is_what_an_agent_could_report(shipped):
    info = shipped.info
    usable = {runtime.name: runtime for runtime in info.runtimes if runtime.available}
    assert usable.keys() & {runtime.name for target in TARGETS.values() for runtime in target.on_device}
    assert all(runtime.reason for runtime in info.runtimes if not runtime.available)
    assert info.environment_id == environment_id(dict(info.fingerprint))
    assert info.fingerprint["runtimes"] == {
        name: {"version": runtime.version, "providers": list(runtime.providers)} for name, runtime in usable.items()
    }
    assert info.power_meter in {None, *AUTOMATIC, *BY_NAME}
    assert info.memory_mb == info.fingerprint["ram_mb"]
    assert info.fingerprint.keys() == fingerprint("0", (), THIS_MACHINE).keys()


def test_a_file_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "my_board.json"
    path.write_text(json.dumps(descriptions.find(NANO).to_json()))
    description = descriptions.find(str(path))
    assert (description.name, description.info) == ("my_board", descriptions.find(NANO).info)
    assert description.sources == descriptions.find(NANO).sources


def test_the_plain_report_of_an_agent_is_a_description(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(descriptions.find(NANO).info.to_json()))
    assert descriptions.find(str(path)).info == descriptions.find(NANO).info
    assert descriptions.find(str(path)).sources == {"device": str(path)}


SELFTESTS = sorted(Path(REPOSITORY, "docs", "selftests").glob("*.json"))


@pytest.mark.parametrize("path", SELFTESTS, ids=lambda path: path.stem)
def test_the_file_of_a_selftest_is_a_description(path):
    description = descriptions.find(str(path))
    assert description.sources["device"].startswith("Recorded by `vitsearch-agent selftest` 0.1.0 on 2026-")
    assert f"{description.info.fingerprint['cores']} cores" in description.in_words()


def test_a_selftest_without_an_agent_is_no_description(tmp_path):
    parts = {name: {} for name in ("files", "later", "links", "commands", "streams", "reasons")}
    report = {"format": 1, "agent": "0.1.0", "started_at": "2026-12-01T00:00:00Z", "seconds": 1.0, "steps": []}
    (tmp_path / "board.json").write_text(json.dumps(report | {"device": None, "recording": parts | {"found": []}}))
    with pytest.raises(ResourceError, match="the selftest could start no agent"):
        descriptions.find(str(tmp_path / "board.json"))


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("jetson_nano", ("fp32",)),
        ("raspberry_pi5", ("fp32", "fp16", "int8 dot products")),
        ("intel_cpu", ("fp32", "fp16", "bf16", "int8 dot products", "int8 matrices")),
        ("iphone", None),
    ],
)
def test_the_features_of_a_processor_say_in_which_types_it_computes(name, types):
    assert descriptions.arithmetic(descriptions.find(name).info) == types


def test_a_description_in_words_has_cores_memory_and_versions():
    words = "NVIDIA Jetson Nano Developer Kit, 4 cores, 4160 MB, aarch64, # R32 (release), REVISION: 7.1, Python 3.6.9"
    assert descriptions.find(NANO).in_words() == words
    assert descriptions.find("iphone").in_words().startswith("a device without a name, cores unknown, memory unknown")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName) as caught:
        descriptions.find("jetson_nan")
    assert str(caught.value).startswith(
        "no file or device description is called 'jetson_nan'; did you mean 'jetson_nano'? Known: android, "
    )
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no json", "Expecting value"),
        ("[]", "expected an object"),
        ('{"device": {}}', "missing sources"),
        ('{"sources": {"device": "x"}, "device": {"api_min": 1}}', "file.device: missing agent_version"),
        ('{"sources": {}, "device": {}, "more": 1}', "unknown more"),
        ('{"recording": {}, "device": {}}', "file: missing"),
    ],
)
def test_a_file_that_is_no_description_is_refused_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "board.json"
    path.write_text(content)
    with pytest.raises(ResourceError) as caught:
        descriptions.find(str(path))
    assert f"{path}: holds no description of a device" in str(caught.value)
    assert reason in str(caught.value)
    assert "vitsearch devices describe NAME" in str(caught.value)


def test_a_folder_is_not_a_description(tmp_path):
    with pytest.raises(ResourceError, match="cannot be read"):
        descriptions.find(str(tmp_path))
