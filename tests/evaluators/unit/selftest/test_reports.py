"""The reports under docs/selftests, of devices that owners have sent too: replayed, each reader finds what it found."""

import glob
import json
import os

import pytest

from support import REPOSITORY
from vitsearch_agent.conditions.environment import fingerprint
from vitsearch_agent.conditions.processor import translator
from vitsearch_agent.config import PowerConfig
from vitsearch_agent.power.survey import survey
from vitsearch_agent.selftest.recording import replay
from vitsearch_agent.selftest.report import SelftestReport
from vitsearch_agent.wire.device_info import RuntimeInfo

PATHS = sorted(glob.glob(os.path.join(REPOSITORY, "docs", "selftests", "*.json")))
OF_THE_PROCESS = ("agent", "affinity", "emulation", "machine", "python")
"""What a fingerprint does not read of its system."""


def named(path):
    return os.path.basename(path)[: -len(".json")]


@pytest.fixture(params=PATHS, ids=named)
def report(request):
    with open(request.param) as stream:
        return SelftestReport.from_json(json.load(stream))


@pytest.fixture
def details(report):
    """details(step): the values that a step has found."""
    found = {step.name: step.details for step in report.steps}
    return found.__getitem__


def test_there_are_reports_of_a_machine_a_board_and_the_oldest_python():
    assert {"this_machine", "emulated_board", "python36"} <= set(map(named, PATHS))


def test_the_environment_is_the_same(report, details, tmp_path):
    system = replay(report.recording, str(tmp_path))
    infos = [RuntimeInfo.from_json(info) for info in details("runtimes")["runtimes"]]
    stored = details("environment")["fingerprint"]
    found = json.loads(json.dumps(fingerprint(report.agent, infos, system)))
    # A later agent reads more: what a report does not have, its device was not asked for.
    found["settings"] = {name: value for name, value in found["settings"].items() if name in stored["settings"]}
    assert {name: found[name] for name in stored if name not in OF_THE_PROCESS} == {
        name: value for name, value in stored.items() if name not in OF_THE_PROCESS
    }
    by = None if stored["emulation"] is None else stored["emulation"]["translator"]
    assert translator(system, stored["machine"]) == by


def test_the_same_meters_can_be_read(report, details, tmp_path):
    readings = survey(PowerConfig(), replay(report.recording, str(tmp_path)), 0.1)
    stored = {reading["name"]: reading for reading in details("power meters")["meters"]}
    for reading in readings:
        assert reading.in_use == stored[reading.name]["in_use"], reading
        assert (reading.watts is None) == (stored[reading.name]["watts"] is None), reading


def test_it_names_nobody(report):
    text = json.dumps(report.to_json())
    assert report.device.hardware.host == ""
    assert not [word for word in ("/root/", "/home/", "serial-number") if word in text]
