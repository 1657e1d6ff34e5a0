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
from vitsearch.search.ending import EndRules, SearchState, Step, Streaks, awaited
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


class Driver:
    """Drives one session to its end."""

    def __init__(self, session: Session, pipeline: Pipeline, plans: PlanSpace) -> None:
        self._session = session
        self._space = session.space
        self._policy = session.search_policy
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
        self._step = Step.END  # outside the search
        self._streaks = Streaks()
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
            self._end_rules = self._make_end_rules()
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
        leaders = {(plan.backbone, plan.deployment): leader.metrics for plan, leader in self._expected_leaders.items()}
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
            self._step = self._end_rules.next_step(self._state())
            if self._step in (Step.LAST_ROUND, Step.CLOSE, Step.END):
                self._remember_convergence()  # now: what is still open may bring an improvement
            if self._step is Step.END:
                break
            self._scheduler.is_last_round = self._step is Step.LAST_ROUND
            self._scheduler.closed = self._step is Step.CLOSE
            self._scheduler.choose()  # the device may have gone or come back
            while self._may_ask(self._state()):
                open_trial = self._study.ask(self._plans, self._driver, self._running_plans())
                self._count_low(open_trial)
                self._start(open_trial)
            if self._open:
                await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED, timeout=POLL_S)
            else:  # all that was asked for is known, or nothing may be asked
                await asyncio.sleep(POLL_S)
            self._collect()
            self._follow_others()
        state, rules = self._state(), self._end_rules
        return SearchEnd(self._outcome(rules.why_ended(state)), rules.why_complete(state) is not None)

    def _state(self) -> SearchState:
        scheduler, study = self._scheduler, self._study
        queue = study.known_queue(self._plans)  # read in each round by `_follow_others`
        return SearchState(
            trained=scheduler.trained,
            in_training=scheduler.in_training,
            in_training_elsewhere=study.trained_elsewhere(),
            candidates=scheduler.competing,
            open=len(self._open),
            queued=len(queue),
            queued_in_training=sum(trial.trains is not None for trial in queue),
            are_all_tried=self._are_all_tried(),
            runs_elsewhere=study.runs_elsewhere(),
            budget_spent=self._budget.why_spent(),
            converged_before=self._stored_convergence,
            streaks=self._streaks,
        )

    def _make_end_rules(self) -> EndRules:
        wanted, least = self._space.search.most_trainings, self._scheduler.least_gain
        return EndRules(wanted, self._untried.count, least, self._policy.ending)

    def _outcome(self, reason: str) -> str:
        """Why the search ends, and that it has found nothing where it has not."""
        posterior = self._scheduler.posterior
        if posterior.front_losses() or not any(record.is_confirmed for record in posterior.records.values()):
            return reason
        command = printable(f"vitsearch front {self._study.name}")
        return f"{reason}; no model meets the limits: '{command}' says which to loosen"

    def _are_all_tried(self) -> bool:
        """Whether every plan of a small space has a trial. The last of them may still run, here or elsewhere."""
        if not self._untried.is_listed:
            return False
        return not self._untried.are_left(self._scheduler.posterior.plans, self._running_plans())

    def _running_plans(self) -> set[Plan]:
        """The plans that this run and others are working on."""
        return {open_trial.plan for open_trial in self._open.values()} | self._study.plans_elsewhere(self._plans)

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
        if reason := self._end_rules.why_converged(self._state()) or self._stored_convergence:
            self._stored_convergence = reason
            convergence = self._convergence(reason, self._scheduler.trained)
            if convergence != self._study.attributes.get("converged"):
                self._study.remember("converged", convergence)

    def _convergence(self, reason: str, trained: int) -> dict[str, Any]:
        return {"space": self._searched, "reason": reason, "trained": trained}

    def _may_ask(self, state: SearchState) -> bool:
        """Keep one full round of candidates coming for each slot, and no more; none for the last plans to train, but
        what waits. What waits for its confirmation counts: a device that is slower than the trainers holds up the
        asking, and never a training."""
        step, scheduler, rules = self._end_rules.next_step(state), self._scheduler, self._scheduler.rules
        if step is not Step.SEARCH and not (step is Step.QUEUE and state.queued):
            return False
        if self._pipeline.device.is_unavailable and self._sampler_is_starved():
            return False
        if state.queued_in_training:
            return True  # however many compete: they may wait for just this training
        before_training = state.open - len(scheduler.in_rungs)  # or behind it, where only the device works
        if state.streaks.low_gains and before_training > state.candidates:
            return False  # what is under way may show that there is more to gain
        wanted = max(
            rules.candidates * rules.slots, self._policy.asking.ahead_of_boards * self._pipeline.device.parallel
        )
        return before_training - scheduler.losers_waiting < wanted

    def _sampler_is_starved(self) -> bool:
        """Whether enough trials were started without the device: they wait for it, or brought no gain."""
        in_rungs = self._scheduler.in_training - self._scheduler.confirming
        waiting = len(self._open) - self._scheduler.competing - in_rungs
        is_in_vain = self._streaks.without_gain >= self._policy.ending.trials_without_gain // 2
        return waiting >= self._policy.asking.waiting_for_device or is_in_vain

    def _count_low(self, open_trial: OpenTrial) -> None:
        gain = gain_of_proposal(open_trial) if self._space.search.sampler == "auto" else None
        if gain is not None:
            self._streaks = self._streaks.proposed(gain, self._scheduler.least_gain)

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
        self._streaks = self._streaks.told(record, open_trial.is_proposal)
        self._ask_for_unseen(record)
        if record.is_confirmed:
            self._remaining.refresh(self._scheduler.posterior.records)
            self._requests.other_deployments(open_trial.number, record)
        self._progress.counted(TRAINED, self._scheduler.trained, self._space.search.wanted)
        self._progress.left(self._remaining.text())
        self._progress.ended(open_trial.number, record)

    def _ask_for_unseen(self, record: Record) -> None:
        """A search that has not ended asks for a plan without a trial where the sampler repeats itself."""
        patience = 1 if self._untried.is_listed else self._space.search.duplicates_in_a_row
        repeats = record.duplicate_of is not None and self._streaks.without_gain >= patience
        if repeats and self._end_rules.next_step(self._state()) is Step.SEARCH:
            self._requests.unseen(self._untried, self._running_plans())

    def _beat(self) -> None:
        self._study.beat(list(self._open.values()))

    def _in_rungs(self) -> list[int]:
        return self._scheduler.in_rungs

    def _awaited(self) -> str:
        return "" if self._step is Step.END else awaited(self._state())

    async def _watch(self) -> None:
        stall = StallWatch(self._pipeline.context, self._pipeline.device, self._in_rungs, awaited=self._awaited)
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
