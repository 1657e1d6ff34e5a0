"""What became of each test and what it took, as JSON: `--outcomes=FILE` writes it, `--only-skipped-in=FILE` reads it.

One environment runs all of the device agent's tests and skips those whose runtime it lacks; the next one runs
only what the first one skipped. `python outcomes.py FILE...` then prints the tests that no environment ran, and
`python outcomes.py --weights FILE...` what the tests of each folder took, with the processes that they awaited.
"""

import json
import os
import sys
from collections import Counter, defaultdict
from itertools import groupby
from operator import itemgetter

import pytest

CPU_S = pytest.StashKey()
"""What this worker and the processes that it awaited had taken at the last report."""
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Note the CPU-seconds since the report before, which the process that writes them cannot see."""
    report = yield
    user, system, of_children, in_children, _ = os.times()
    report.cpu_s = user + system + of_children + in_children - item.config.stash.get(CPU_S, 0.0)
    item.config.stash[CPU_S] = user + system + of_children + in_children
    return report


def file_of(nodeid):
    return nodeid.partition("::")[0]


class Writer:
    """Collects the reports of all workers."""

    def __init__(self, path):
        self._path = path
        self._ran = set()
        self._took = defaultdict(lambda: [0.0, 0.0])
        self._skipped = {}

    def pytest_collectreport(self, report):
        """A module that skips itself has no tests: its file stands for them."""
        if report.skipped:
            self._skipped[report.nodeid] = reason_of(report)

    def pytest_runtest_logreport(self, report):
        took = self._took[report.nodeid]
        took[:] = took[0] + report.duration, took[1] + report.cpu_s
        if report.skipped:
            self._skipped[report.nodeid] = reason_of(report)
        elif report.when == "call":
            self._ran.add(report.nodeid)

    def pytest_sessionfinish(self):
        with open(self._path, "w") as stream:
            json.dump({"ran": sorted(self._ran), "skipped": self._skipped, "took": self._took}, stream, indent=1)


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


def weights(paths):
    """What the tests of each folder took, the heaviest first: (folder, tests, worker-seconds, CPU-seconds).

    Where the worker starts the processes of a test and does not await them, their CPU-seconds are missing.
    """
    folders = defaultdict(lambda: [0, 0.0, 0.0])
    for path in paths:
        with open(path) as stream:
            took = json.load(stream)["took"]
        for nodeid, (wall_s, cpu_s) in took.items():
            folder = folders["/".join(file_of(nodeid).split("/")[1:4]).removesuffix(".py")]
            folder[:] = folder[0] + 1, folder[1] + wall_s, folder[2] + cpu_s
    rows = [(folder, *figures) for folder, figures in folders.items()]
    return sorted(rows, key=itemgetter(2), reverse=True)


def print_weights(paths):
    rows = weights(paths)
    rows.insert(0, ("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    print("| folder | tests | worker-seconds | CPU-seconds |\n|---|---|---|---|")
    for folder, tests, wall_s, cpu_s in rows:
        print(f"| {folder} | {tests} | {wall_s:.0f} | {cpu_s:.0f} |")


def main(paths):
    if paths[0] == "--weights":
        print_weights(paths[1:])
        return
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
