"""A disk that is full at twenty moments of a search: one sentence each time, nothing lost, and the run goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from support.disks import fill, small_disk
from vitsearch.errors import StoreError
from vitsearch.search.admin.verifying import verify
from vitsearch.space import SearchSpace
from vitsearch.storage import driver_id
from vitsearch.storage.atomic_files import no_room
from vitsearch.testing.fakes import FakeDevice, FakeRunner

MOMENTS, TRIALS = 20, 6


def on(disk, make_study, name):
    study, url = make_study(trials=TRIALS), f"sqlite:///{disk / f'{name}.db'}"
    folder = disk / f"{name}.files"
    folder.mkdir()
    space = SearchSpace.from_json(study.space.to_json() | {"storage": url})
    return replace(study, folder=folder, space=space, runner=FakeRunner(), device=FakeDevice())


def call_at(study, moment, action):
    """Call `action` when this many stages and measurements have begun; returns their number so far."""
    begun = Counter()

    def count(_):
        begun["all"] += 1
        if begun["all"] == moment:
            action()

    study.runner.before = study.device.before = count
    return begun


@pytest.mark.long
def test_a_full_disk_ends_a_run_with_one_sentence_and_the_next_one_goes_on(make_study, tmp_path, monkeypatch):
    through, refused = [], Counter()
    with small_disk(tmp_path / "disk", megabytes=48) as disk:
        calm = on(disk, make_study, "calm")
        steps = call_at(calm, 0, print)
        assert calm.run().complete
        for number in range(MOMENTS):
            study, moment = on(disk, make_study, f"full{number}"), 1 + number * (steps["all"] - 1) // (MOMENTS - 1)
            call_at(study, moment, lambda: fill(disk))
            try:
                assert study.run().complete, "what it wrote had room in files that were there"
            except StoreError as error:
                refused["refused"] += 1
                if not str(error).endswith("full; make room there, then run the same command again"):
                    through.append(f"moment {moment}: {error}")
            except OSError as error:  # a fake stage writes here, in place of a worker; the command line says it as one
                refused["refused"] += 1
                if no_room(error) is None:
                    through.append(f"moment {moment}: {error!r}")
            except BaseException as error:  # noqa: BLE001 - whatever comes through is named
                through.append(f"moment {moment}: {error!r}")
            (disk / "ballast").unlink(missing_ok=True)  # a run of fewer steps may end before its moment
            study.runner.before = study.device.before = lambda _: None
            monkeypatch.setattr(
                driver_id, "_started", lambda _, run=number: f"{run}"
            )  # the next run is another process
            assert study.run().complete
            assert study.trained == TRIALS
            assert study.runner.runs["train"] <= TRIALS + 1, "only what was under way is trained again"
            assert study.numbers_by_state().keys() <= {TrialState.COMPLETE, TrialState.PRUNED}
            assert not list(verify([study.space.storage]))
    assert not through
    assert refused["refused"] > MOMENTS // 2
