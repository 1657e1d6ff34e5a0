"""What became of each test, as JSON: `--outcomes=FILE` writes it, `--only-skipped-in=FILE` reads it.

One environment runs all of the device agent's tests and skips those whose runtime it lacks; the next one runs
only what the first one skipped. `python outcomes.py FILE...` then prints the tests that no environment ran.
"""

import json
import sys
from collections import Counter
from itertools import groupby
from operator import itemgetter

import pytest

NOT_REACHED = "not reached in the time of this run"


def pytest_addoption(parser):
    group = parser.getgroup("outcomes")
    group.addoption("--outcomes", metavar="FILE", help="write which tests ran and why others were skipped")
    group.addoption("--only-skipped-in", metavar="FILE", help="run only the tests that FILE of --outcomes skipped")


def pytest_configure(config):
    path = config.getoption("--outcomes")
    if path and not hasattr(config, "workerinput"):  # xdist's workers report to the one that writes
        config.pluginmanager.register(Writer(path), "vitsearch-outcomes")


def pytest_collection_modifyitems(config, items):
    path = config.getoption("--only-skipped-in")
    if path is None:
        return
    with open(path) as stream:
        skipped = json.load(stream)["skipped"]
    chosen = [item for item in items if item.nodeid in skipped or file_of(item.nodeid) in skipped]
    chosen_ids = {item.nodeid for item in chosen}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen_ids])
    items[:] = chosen


def pytest_sessionfinish(session, exitstatus):
    """Nothing may be left for an environment to run."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("--only-skipped-in"):
        session.exitstatus = pytest.ExitCode.OK


def file_of(nodeid):
    return nodeid.partition("::")[0]


class Writer:
    """Collects the reports of all workers."""

    def __init__(self, path):
        self._path = path
        self._ran = set()
        self._skipped = {}

    def pytest_collectreport(self, report):
        """A module that skips itself has no tests: its file stands for them."""
        if report.skipped:
            self._skipped[report.nodeid] = reason_of(report)

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            self._skipped[report.nodeid] = reason_of(report)
        elif report.when == "call":
            self._ran.add(report.nodeid)

    def pytest_sessionfinish(self):
        with open(self._path, "w") as stream:
            json.dump({"ran": sorted(self._ran), "skipped": self._skipped}, stream, indent=1)


def reason_of(report):
    *_, reason = report.longrepr if isinstance(report.longrepr, tuple) else (str(report.longrepr),)
    return reason.replace("Skipped: ", "", 1)


def never_run(paths):
    """The tests that were skipped wherever they were collected: reason by name."""
    ran, skipped = set(), {}
    for path in paths:
        with open(path) as stream:
            outcomes = json.load(stream)
        ran.update(outcomes["ran"], map(file_of, outcomes["ran"]))
        skipped.update(outcomes["skipped"])
    return {name: reason for name, reason in skipped.items() if name not in ran}


def main(paths):
    left = never_run(paths)
    late = Counter(file_of(name) for name, reason in left.items() if reason == NOT_REACHED)
    skipped = [(reason, name) for name, reason in left.items() if reason != NOT_REACHED]
    print(f"{len(skipped)} tests were skipped in every environment{':' if skipped else '.'}")
    for reason, tests in groupby(sorted(skipped), key=itemgetter(0)):
        print("\n      ".join([f"  {reason}", *(name for _, name in tests)]))
    if late:
        print(f"{late.total()} tests were not reached in the time of this run:")
        for file, count in sorted(late.items()):
            print(f"  {count:4} of {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
