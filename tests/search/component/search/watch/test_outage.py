"""The search while its device is away: what needs no device goes on, what does is told once, when it is back."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from optuna.trial import TrialState

from support.progress import Lines
from vitsearch.core.policy import POLICY
from vitsearch.core.record import trainings
from vitsearch.devices import availability
from vitsearch.devices.agent_device import Outage
from vitsearch.errors import DeviceLost, StageError
from vitsearch.search import driver
from vitsearch.search.watch import outage
from vitsearch.stages import ProxyJob
from vitsearch.study import status as study_status
from vitsearch.testing.fakes import FakeDevice
from vitsearch_agent.wire.protocol import SCREEN

LEAVES_AT = 10
"""The baseline, the two precisions of the leaderboard, and three screens; then it is away."""


@dataclass
class Leaving(FakeDevice):
    """Gives no answer to the `leaves_at`-th question and all that follow, until `is_back` says so.

    `most_waiting` screens waited at the same time.
    """

    leaves_at: int = LEAVES_AT
    is_back: Callable[[], bool] = lambda: False
    waiting: list[str] = field(default_factory=list)
    calls: int = 0
    most_waiting: int = 0

    async def measure(self, artifact, deployment, protocol, repeat):
        self.calls += 1
        if self.calls >= self.leaves_at and not self.is_back():
            self.waiting.append(protocol.id)
            self.most_waiting = max(self.most_waiting, self.waiting.count(SCREEN.id))
            try:
                await self._silence()
            finally:
                self.waiting.remove(protocol.id)
        return await super().measure(artifact, deployment, protocol, repeat)

    async def _silence(self):
        self.outage = self.outage or Outage(time.monotonic(), "no route to host")
        while not self.is_back():
            await asyncio.sleep(0.01)
        self.outage = None


@pytest.fixture
def study(fake_study, monkeypatch):
    monkeypatch.setattr(availability, "OUTAGE_AFTER_S", 0.0)
    monkeypatch.setattr(availability, "POLL_S", 0.05)
    monkeypatch.setattr(outage, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(driver, "POLL_S", 0.01)
    return replace(fake_study.with_space(search__trials=4), device=Leaving(deadline_s=20.0), progress=Lines())


def states(study):
    with study.opened() as (opened, _):
        return Counter(trial.state for trial in opened.as_optuna())


def status(study):
    with study.opened() as (opened, ledger):
        return study_status.status(opened, ledger).waits


def test_training_goes_on_and_every_trial_is_told_once(study):
    device, stages, seen = study.device, study.runner.runs, {}

    def has_trained_without_it():
        if stages["train"] and device.waiting and not seen.get("status"):
            seen["status"] = status(study)
        return bool(seen.get("status"))

    device.is_back = has_trained_without_it
    assert study.run().complete
    said = re.compile(r"waits for device local, no answer for \d+ s: no route to host")
    assert said.match(seen["status"])
    assert any(said.match(line) for line in study.progress.waits_for)
    assert any(said.startswith("device local answers again, after ") for said in study.progress.said)
    assert status(study) is None
    assert not states(study).keys() & {TrialState.FAIL, TrialState.RUNNING}
    records = study.records()
    assert len(trainings(records)) == 4
    with study.opened() as (_, ledger):
        keys = {record.keys.graph_key for record in records.values()}
        rows = [row for key in keys for row in ledger.measurements(key, device.info.device_id)]
    assert len({(row.graph_key, row.protocol, row.repeat) for row in rows}) == len(rows)
    assert len(rows) <= sum(device.measured.values()) <= len(rows) + 2  # and the baseline's, which may be no trial's


@pytest.mark.parametrize(("may_wait", "waiting"), [(1, 3), (9, 4)])
def test_no_more_is_asked_for_when_enough_waits(study, may_wait, waiting):
    """Four plans are asked for before the first is seen to wait; one of them is still screened, and not replaced."""
    policy = replace(POLICY, asking=replace(POLICY.asking, waiting_for_device=may_wait))
    many = replace(study, policy=policy).with_space(search__candidates=4)
    many.device.leaves_at = 5
    many.device.deadline_s = 0.1
    with pytest.raises(DeviceLost):
        many.run()
    assert 1 <= many.device.most_waiting <= waiting


@pytest.mark.parametrize(("listed", "fewest", "most"), [(0, 3, 12), (500, 0, 0)])
def test_plans_that_are_known_end_no_search_while_others_wait(study, listed, fewest, most):
    """In a space that is not listed, the sampler repeats them."""
    two = study.ending(listed_plans=listed, trials_without_gain=6).with_space(
        space__head_pruning_ratio=[0.0], space__ffn_pruning_ratio=[0.0], search__candidates=4
    )
    two.device.leaves_at = 4
    two.device.deadline_s = 0.1
    with pytest.raises(DeviceLost):
        two.run()
    assert fewest <= sum(record.duplicate_of is not None for record in two.records().values()) <= most


def test_a_device_that_stays_away_ends_the_run_and_the_same_command_goes_on(study):
    device = study.device
    device.deadline_s = 0.1
    with pytest.raises(DeviceLost, match=r"device local: no route to host \(gave up after .* useful answer\)"):
        study.run()
    assert study.runner.runs["train"] >= 1  # all that could be done without it
    assert status(study) is None
    assert not states(study).keys() & {TrialState.FAIL, TrialState.RUNNING}
    device.outage, device.is_back = None, lambda: True
    assert study.run().complete
    assert study.runner.runs["train"] == len(trainings(study.records())) == 4


def test_a_device_that_leaves_before_the_search_finds_bases_and_anatomies_made(study):
    two = [{"name": name, "weights": "builtin"} for name in ("fake_vit", "another_vit")]
    both = study.with_space(space__backbone=two)
    both.device.leaves_at = 1
    both.device.is_back = lambda: both.runner.runs["base"] == 2
    assert both.run().complete  # else it would be away for ever
    assert not states(both).keys() & {TrialState.FAIL, TrialState.RUNNING}


@pytest.mark.long
def test_plans_that_wait_to_be_screened_get_their_proxy_score(study):
    study.device.leaves_at = 3  # the first screen of the search
    study.device.is_back = lambda: study.runner.runs["proxy"] >= 1
    assert study.run().complete  # else it would be away for ever
    proxies = {record.keys.weights_key for record in study.records().values() if record.proxy}
    assert study.runner.runs["proxy"] == len(proxies)


@pytest.mark.long
def test_what_fails_ahead_of_its_time_is_made_again_by_who_needs_it(study):
    refused = Counter()

    def no_signal(job):
        if isinstance(job, ProxyJob) and few.device.waiting and not refused:
            refused["proxy"] += 1
            raise StageError("proxy", "not_finite", "no number")

    few = study.with_space(search__trials=3)
    few.runner.before = no_signal
    few.device.leaves_at = 3
    few.device.is_back = lambda: bool(refused)
    assert few.run().complete
    assert not states(few).keys() & {TrialState.FAIL, TrialState.RUNNING}
