"""One `vitsearch run`: baseline, leaderboard, search, and the front re-measured while nothing is trained.

Asks Optuna, starts each trial as a task of the event loop, tells Optuna. Trials overlap: while one is
trained, the next are built, measured and given their proxy score. Stopping at any point loses no stage.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from vitsearch.core.figures import NO_METRICS, Metrics
from vitsearch.core.limits import constraints
from vitsearch.core.plan import Plan
from vitsearch.core.record import Record, RunningTrial, trainings
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import TRAINED
from vitsearch.search.backbone_screening import BackboneScreening
from vitsearch.search.changed_environment import measure_again
from vitsearch.search.expected_leaders import expected_leaders
from vitsearch.search.final_pass import FinalPass
from vitsearch.search.forecast.cost_model import training_seconds
from vitsearch.search.plan_requests import LeaderboardEntry, Requests, lost_beside_fp32
from vitsearch.search.posterior import Posterior
from vitsearch.search.sampler import auto_sampler, gain_of_proposal, searched_plans
from vitsearch.search.scheduler import Rules, TrialScheduler, equal_price
from vitsearch.search.session import Session
from vitsearch.search.trial import run_trial
from vitsearch.search.unpruned_models import UnprunedModels
from vitsearch.search.untried import UntriedPlans
from vitsearch.search.watch.budget import Budget
from vitsearch.search.watch.heartbeat import alive
from vitsearch.search.watch.outage import OutageHandler
from vitsearch.search.watch.stall import StallWatch
from vitsearch.search.watch.time_estimate import Remaining
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.file_forms import FileForms
from vitsearch.study.front import read_front
from vitsearch.study.identity import adopt_fleet
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import OpenTrial
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.base.printable import printable

logger = logging.getLogger(__name__)

POLL_S = 0.25
REPORT_S = 1.0


@dataclass(frozen=True)
class SearchEnd:
    """Why the search stopped, in words, and whether it is complete."""

    reason: str
    complete: bool


def _trained(count: int) -> str:
    return "1 plan trained" if count == 1 else f"{count} plans trained"


class Driver:
    """Drives one session to its end."""

    def __init__(self, session: Session, pipeline: Pipeline, plans: PlanSpace) -> None:
        self._session = session
        self._space = session.space
        self._policy = session.policy
        self._study = session.study
        self._slots = session.slots
        self._driver = session.driver
        self._progress = session.progress
        self._pipeline = pipeline
        self._forms = FileForms(session.study)
        self._plans = replace(plans, form_of=self._forms)
        self._open: dict[asyncio.Task[Record], OpenTrial] = {}
        self._leaders: dict[Plan, LeaderboardEntry] = {}
        self._expected_leaders: dict[Plan, LeaderboardEntry] = {}
        self._budget = Budget(session.space.search, session.ledger.costs, session.study.name)
        self._without_gain = 0
        self._failures: list[Record] = []
        self._low_proposals = 0
        self._searched = ""
        self._stored_convergence: str | None = None

    async def run(self, retry_failed: bool = False) -> SearchEnd:
        """Search until it is complete or its budget is spent. Raises
        `StudyDeleted` when somebody deletes the study meanwhile."""
        renew = self._pipeline.context.single_flight.renew
        async with alive(renew, self._beat, self._study.recover):
            return await self._run(retry_failed)

    async def _run(self, retry_failed: bool) -> SearchEnd:
        self._pipeline.context.single_flight.drop_dead()
        self._study.remember("protocol", self._pipeline.protocols.confirm.id)
        if self._pipeline.fleet is not None:
            adopt_fleet(self._study, self._pipeline.fleet)
        ledger, results = self._session.ledger, self._pipeline.device_results
        figures = CurrentFigures(ledger, self._study.fleets, results)
        self._remaining = Remaining(self._study, ledger, self._space, self._slots, figures)
        reporting = asyncio.create_task(self._report_left())
        beside = [reporting, asyncio.create_task(self._watch())]
        try:
            baseline = await self._measure_unpruned()
            self._searched = self._digest_of_searched()
            self._stored_convergence = self._convergence_of_the_last_run()
            await measure_again(self._pipeline, self._study.records())
            self._scheduler = self._make_scheduler(baseline)
            leaders = self._expected_leaders
            self._requests = Requests(self._study, self._plans, self._scheduler, leaders, self._space.search.seed)
            self._untried = UntriedPlans(searched_plans(self._plans, leaders), self._policy.ending.listed_plans)
            if self._space.search.sampler == "auto":
                self._study.sample_with(auto_sampler(self._study, self._plans, self._scheduler.posterior, leaders))
            if retry_failed:
                self._requests.failed()
            self._study.remember("search_end", None)
            ended = await self._search()
            self._study.remember("search_end", ended.reason)
            reporting.cancel()
            read = partial(read_front, self._study, ledger, current=figures)
            await FinalPass(self._pipeline, self._study.records, read, self._remaining.final_text).run()
            return ended
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._put_back()

    async def _measure_unpruned(self) -> Metrics:
        """Measure the baseline and the leaderboard. Backbones that cannot meet the limits are left out before a base is
        trained: after the baseline only where limits refer to it."""
        screening = BackboneScreening(self._session, self._pipeline, self._plans)
        baseline = await self._unpruned().baseline() if screening.needs_baseline else None
        self._plans = await screening.searched(baseline or NO_METRICS)
        unpruned = self._unpruned()
        async with unpruned.bases_ahead():
            baseline = baseline or await unpruned.baseline()
            self._leaders = await unpruned.leaderboard()
        self._expected_leaders = expected_leaders(self._plans, self._leaders)
        return baseline

    def _unpruned(self) -> UnprunedModels:
        return UnprunedModels(self._session, self._pipeline, self._plans, self._forms)

    def _make_scheduler(self, baseline: Metrics) -> TrialScheduler:
        search, goals, pipeline = self._space.search, self._session.goals(baseline), self._pipeline
        device_figures = pipeline.device_metrics, pipeline.device_changes
        leaders = {(plan.backbone, plan.deployment): leader for plan, leader in self._expected_leaders.items()}
        lost = lost_beside_fp32(leaders)
        posterior = Posterior(goals, self._study.records(), pipeline.bases, *device_figures, lost)
        rules = Rules(search.candidates, self._slots, search.most_trainings, self._policy)
        price = equal_price if search.budget_s is None else training_seconds
        return TrialScheduler(rules, posterior, lambda: self._pipeline.device.is_unavailable, price, self)

    def claim(self, trial: RunningTrial) -> bool:
        """One of the trainings that all drivers of the study have together."""
        return self._study.claim_training(trial.number, trial.keys.weights_key, self._space.search.most_trainings)

    def holds(self, trial: RunningTrial) -> bool:
        return self._study.holds_training(trial.number)

    # ---- the search

    async def _search(self) -> SearchEnd:
        wanted = self._space.search.most_trainings
        posterior = self._scheduler.posterior
        self._remaining.refresh(posterior.records)
        if (
            self._stored_convergence is None and wanted > self._scheduler.trained
        ):  # one that has ended makes nothing new
            self._requests.put_aside((wanted - self._scheduler.trained) * self._space.search.candidates)
            for number, record in posterior.records.items():
                self._requests.other_deployments(number, record)
        while True:
            if reason := self._stop_asking():
                self._remember_convergence()  # now: what is still open may bring an improvement
                await self._finish_open()
                if self._budget.why_spent() or not self._study.has_waiting(self._plans):
                    self._remember_convergence()
                    return SearchEnd(self._outcome(self._stop_asking() or reason), self._why_complete() is not None)
            while self._may_ask() and not self._stop_asking():
                open_trial = self._study.ask(self._plans, self._driver, self._running_plans())
                self._count_low(open_trial)
                self._start(open_trial)
            if self._open:
                await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED, timeout=POLL_S)
            else:  # all that was asked for is known, or nothing may be asked
                await asyncio.sleep(POLL_S)
            self._collect()
            self._follow_others()
            self._scheduler.is_last_round = self._nobody_comes()
            self._scheduler.choose()  # the device may have gone or come back

    def _stop_asking(self) -> str | None:
        """Why nothing more is asked. A complete search still asks for what waits: the other deployments of what it has
        trained."""
        if spent := self._budget.why_spent():
            return spent
        reason = self._why_complete() or self._why_failing()
        return None if reason and self._study.has_waiting(self._plans) else reason

    def _outcome(self, reason: str) -> str:
        """Why the search ends, and that it has found nothing where it has not."""
        posterior = self._scheduler.posterior
        if posterior.front_losses() or not any(record.is_confirmed for record in posterior.records.values()):
            return reason
        command = printable(f"vitsearch front {self._study.name}")
        return f"{reason}; no model meets the limits: '{command}' says which to loosen"

    def _why_complete(self) -> str | None:
        search, scheduler = self._space.search, self._scheduler
        if scheduler.trained >= search.most_trainings:
            return _trained(search.most_trainings)
        return self._why_converged() or self._stored_convergence

    def _is_exhausted(self) -> bool:
        """Whether every plan of a small space has a trial. The last of them may still run, here or elsewhere."""
        if not self._untried.is_listed:
            return False
        return not self._untried.are_left(self._scheduler.posterior.plans, self._running_plans())

    def _running_plans(self) -> set[Plan]:
        """The plans that this run and others are working on."""
        return {open_trial.plan for open_trial in self._open.values()} | self._study.plans_elsewhere(self._plans)

    def _nobody_comes(self) -> bool:
        """Whether the candidates that wait are the last ones: nothing is left to ask, and all others are screened."""
        coming = len(self._open) - self._scheduler.in_training - self._scheduler.competing
        return coming == 0 and not self._study.has_waiting(self._plans) and self._is_exhausted()

    def _why_converged(self) -> str | None:
        scheduler, ending = self._scheduler, self._policy.ending
        if scheduler.converged:
            return (
                f"{_trained(scheduler.trained)}; in {ending.low_rounds} rounds no candidate was expected to add "
                f"{scheduler.least_gain:.1%} to the hypervolume: the front has converged"
            )
        if self._low_proposals >= ending.low_proposals:
            return (
                f"{_trained(scheduler.trained)}; no plan of the space is expected to add "
                f"{ending.least_gain_of_proposal:.1%} to the hypervolume: the front has converged"
            )
        if self._without_gain >= self._patience:
            return f"{self._patience} trials in a row brought no improvement: the front has converged"
        if self._is_exhausted() and not self._open and not self._study.runs_elsewhere():
            return f"{_trained(scheduler.trained)}; all {self._untried.count} plans of the space have been tried"
        return None

    def _why_failing(self) -> str | None:
        """Why nothing more is asked although little is known of the space: plan after plan fails, and there is no other
        that could be trained."""
        if len(self._failures) < self._policy.ending.failures:
            return None
        return f"{len(self._failures)} trials in a row failed; the last one: {self._failures[-1].reason}"

    def _digest_of_searched(self) -> str:
        """Names what is searched: the space, what the device can run of it now, and the environment in which it
        measures. Known once the backbones are screened."""
        plans, environment = self._plans, self._pipeline.device.info.environment_id
        runs = [[asdict(model), run] for model in plans.unpruned_models() for run in plans.runs(model)]
        return digest({"space": self._space.to_json(), "runs": runs, "environment": environment})

    def _convergence_of_the_last_run(self) -> str | None:
        """Why the same search has converged before: asking again would bring no more. What another run has trained
        since may show that there is more to gain."""
        stored = self._study.attributes.get("converged")
        now = self._convergence("", len(trainings(self._study.records())))
        return stored["reason"] if stored and stored | {"reason": ""} == now else None

    def _remember_convergence(self) -> None:
        if reason := self._why_converged() or self._stored_convergence:
            self._stored_convergence = reason
            self._study.remember("converged", self._convergence(reason, self._scheduler.trained))

    def _convergence(self, reason: str, trained: int) -> dict[str, Any]:
        return {"space": self._searched, "reason": reason, "trained": trained}

    @property
    def _patience(self) -> int:
        ending = self._policy.ending
        return ending.proposals_without_gain if self._space.search.sampler == "auto" else ending.trials_without_gain

    def _may_ask(self) -> bool:
        """Keep one full round of candidates coming for each slot, and no more; none for the last plans to train, but
        what waits. What waits for its confirmation counts: a device that is slower than the trainers holds up the
        asking, and never a training."""
        scheduler, rules = self._scheduler, self._scheduler.rules
        in_training = scheduler.in_training + self._study.trained_elsewhere()
        is_enough = scheduler.trained + in_training >= rules.wanted or self._is_exhausted()
        if is_enough and not self._study.has_waiting(self._plans):
            return False
        if self._pipeline.device.is_unavailable and self._sampler_is_starved():
            return False
        before_training = len(self._open) - len(scheduler.in_rungs)  # or behind it, where only the device works
        if self._low_proposals and before_training > scheduler.competing:
            return False  # what is under way may show that there is more to gain
        wanted = max(
            rules.candidates * rules.slots, self._policy.asking.ahead_of_boards * self._pipeline.device.parallel
        )
        return before_training - scheduler.losers_waiting < wanted

    def _sampler_is_starved(self) -> bool:
        """Whether enough trials were started without the device: they wait for it, or brought no gain."""
        in_rungs = self._scheduler.in_training - self._scheduler.confirming
        waiting = len(self._open) - self._scheduler.competing - in_rungs
        return waiting >= self._policy.asking.waiting_for_device or self._without_gain >= self._patience // 2

    def _count_low(self, open_trial: OpenTrial) -> None:
        gain = gain_of_proposal(open_trial) if self._space.search.sampler == "auto" else None
        if gain is not None:
            is_low = gain < self._policy.ending.least_gain_of_proposal
            self._low_proposals = self._low_proposals + 1 if is_low else 0

    def _start(self, open_trial: OpenTrial) -> None:
        record = open_trial.record or self._leaderboard_record(open_trial.number, open_trial.plan)
        if record is not None:
            self._tell(open_trial, record)
            return
        task = asyncio.ensure_future(run_trial(open_trial.number, open_trial.plan, self._pipeline, self._scheduler))
        self._open[task] = open_trial

    def _leaderboard_record(self, number: int, plan: Plan) -> Record | None:
        """The record of a model of the leaderboard, which is complete; None for other plans, and for a model of which
        an objective or a limit is not known yet, because only a confirmation measures it, such as the energy."""
        leader, space = self._leaders.get(plan), self._space
        if leader is None or any(leader.metrics.value(name) is None for name in (*space.objectives, *space.limits)):
            return None
        if duplicate := self._scheduler.duplicate_of(number, plan, leader.keys):
            return duplicate
        broken = constraints(self._scheduler.posterior.goals.bounds, leader.metrics.values)
        return Record("confirmed", plan, "", leader.keys, leader.metrics, broken)

    def _follow_others(self) -> None:
        """Take in what other drivers of the study have found: predictions, front and budget are those of all."""
        own_records, records = self._scheduler.posterior.records, self._study.records()
        for number in sorted(records.keys() - own_records.keys()):
            self._scheduler.add(number, records[number])
        for task in [task for task, open_trial in self._open.items() if self._study.has_ended(open_trial)]:
            task.cancel()
            self._lose(self._open.pop(task))

    def _lose(self, open_trial: OpenTrial) -> None:
        """Another driver has taken the trial for lost, as after an outage of the database, and has enqueued its plan
        again. Whoever asks for that finds the stages that are finished."""
        logger.warning("trial %d was taken for lost by another driver; its plan is asked for again", open_trial.number)
        self._scheduler.lose(open_trial.number)

    def _collect(self) -> None:
        for task in [task for task in self._open if task.done()]:
            open_trial = self._open.pop(task)
            try:
                record = task.result()
            except BaseException:
                self._scheduler.forget(open_trial.number)
                self._study.release(open_trial)
                raise
            self._tell(open_trial, record)

    def _tell(self, open_trial: OpenTrial, record: Record) -> None:
        if not self._study.tell(open_trial, record):
            self._lose(open_trial)
            return
        self._scheduler.add(open_trial.number, record)
        has_failed = record.outcome == "failed" and record.duplicate_of is None
        is_alone = not self._scheduler.in_training and not self._scheduler.competing
        self._failures = [*self._failures, record] if has_failed and is_alone else []
        if record.is_confirmed:
            self._without_gain = 0
        elif open_trial.is_proposal and not has_failed:
            self._without_gain += 1
        patience = 1 if self._untried.is_listed else self._space.search.duplicates_in_a_row
        if record.duplicate_of is not None and self._without_gain >= patience:
            self._requests.unseen(self._untried, self._running_plans())
        if record.is_confirmed:
            self._remaining.refresh(self._scheduler.posterior.records)
            self._requests.other_deployments(open_trial.number, record)
        self._progress.counted(TRAINED, self._scheduler.trained, self._space.search.wanted)
        self._progress.left(self._remaining.text())
        self._progress.ended(open_trial.number, record)

    async def _finish_open(self) -> None:
        """No new trials. Of those that wait, a search that has converged trains those that are expected to add enough,
        while its budget lasts, and any other drops them. A training that the end of the budget finds stops after its
        rung; others finish."""
        self._scheduler.is_last_round = self._why_complete() is not None
        while True:
            self._scheduler.closed = not self._scheduler.is_last_round or self._budget.why_spent() is not None
            self._scheduler.choose()
            if not self._open:
                return
            await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED, timeout=POLL_S)
            self._collect()
            self._follow_others()  # who may have taken the last trainings

    def _beat(self) -> None:
        self._study.beat(list(self._open.values()))

    async def _watch(self) -> None:
        stall = StallWatch(self._pipeline.context, self._pipeline.device, lambda: self._scheduler.in_rungs)
        handler = OutageHandler(self._pipeline, self._study, self._driver, self._progress, stall)
        await handler.watch(
            list(self._plans.leaderboard()), lambda: [open_trial.plan for open_trial in self._open.values()]
        )

    async def _report_left(self) -> None:
        while True:
            self._progress.left(self._remaining.text())
            await asyncio.sleep(REPORT_S)

    async def _put_back(self) -> None:
        """Return open trials to the queue with their number, and end their stages. The device ends its job first: who
        takes over the measurement asks it for the same one."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._session.device.close()
        await self._pipeline.context.single_flight.stop()
        for open_trial in self._open.values():
            self._study.release(open_trial)
        self._open.clear()
