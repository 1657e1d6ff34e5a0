"""Two runs of one study on one machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.real_search import ENDLESS, OVERLAPPING, PATIENCE_S, RealSearch, write_images

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a run in /proc"),
]


@pytest.fixture
def search(tmp_path: Path) -> Iterator[RealSearch]:
    write_images(tmp_path / "images", OVERLAPPING)
    search = RealSearch.write(tmp_path, "joined", ENDLESS, trials=4)
    yield search
    search.kill_all()


def test_a_second_run_joins_the_first_and_goes_on_when_that_is_killed(search: RealSearch) -> None:
    first = search.start()
    deadline = time.monotonic() + PATIENCE_S
    while not any("vitsearch_agent serve" in command for command in search.processes().values()):
        assert first.poll() is None, search.log()
        assert time.monotonic() < deadline, search.log()
        time.sleep(0.1)
    second = search.start()
    while "this run joins it" not in search.log() or not any(row.startswith("vs_training") for row in search.rows()):
        assert second.poll() is None, search.log()
        assert time.monotonic() < deadline, search.log()
        time.sleep(0.2)
    before = search.rows()
    first.kill()
    first.wait()
    assert second.wait(PATIENCE_S) == 0, search.log()
    after = search.rows()
    assert {key: after.get(key) for key in before} == before, "a finished stage was lost or made again"
    assert set(search.states()) <= {"COMPLETE", "PRUNED"}, search.log()
    assert 1 <= len(search.chosen("COMPLETE")) <= search.trials, "it may end as converged"
    # A training that was cut short by the kill may add nothing to what is known when it is done.
    trained = {row.split()[1].split(":")[0] for row in after if row.startswith("vs_training") and row[-2:] != ":0"}
    assert len(trained - search.chosen("COMPLETE", "PRUNED")) == 1, "only the base is trained without being chosen"
    assert search.left_after_the_end() == {}
