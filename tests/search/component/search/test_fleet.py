"""A study on several devices: one model on all of them, one front."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from support.progress import Lines
from vitsearch.devices import availability
from vitsearch.devices.agent_device import Outage
from vitsearch.devices.fleet import FleetDevice
from vitsearch.errors import DeviceLost, StageError, StudyError
from vitsearch.report.data import read_report
from vitsearch.search import driver
from vitsearch.search.watch import outage
from vitsearch.study.front import read_front
from vitsearch.study.results.detail import read_detail
from vitsearch.study.results.selection import Selection
from vitsearch.testing.fakes import FakeDevice, fake_measurement

NANO, PI5 = 3.0, 1.0
"""How many times the cost in the file a model takes there."""
PATIENCE_S = 60.0


@dataclass
class Board(FakeDevice):
    """`factor` times slower than the file says. A measurement takes `seconds` and waits for the others of `together`;
    `busy` are the times of the measurements."""

    factor: float = 1.0
    seconds: float = 0.0
    busy: list[tuple[float, float]] = field(default_factory=list)
    together: asyncio.Barrier | None = None

    async def measure(self, artifact, deployment, protocol, repeat):
        self.before(artifact)
        self.measured[protocol.id] += 1
        cost_ms = self.factor * json.loads(artifact.read_text())["cost_ms"]
        began = time.monotonic()
        await asyncio.sleep(self.seconds)
        if self.together is not None:
            await asyncio.wait_for(self.together.wait(), PATIENCE_S)
        self.busy.append((began, time.monotonic()))
        where = {"device_id": self.info.device_id, "environment_id": self.info.environment_id}
        return fake_measurement(cost_ms, protocol, runtime=deployment.runtime, **where)


def board(name, **changes):
    return Board(name, info=FakeDevice.info._replace(device_id=f"id of {name}"), **changes)


def on(study, boards, **changes):
    """The study on these boards, with other sections of its file."""
    urls = {board.name: f"http://{board.name}:8470" for board in boards}
    return replace(study.with_space(devices=urls, **changes), device=FleetDevice(boards), progress=Lines())


@pytest.fixture
def boards():
    return [board("nano", factor=NANO), board("pi5", factor=PI5)]


@pytest.fixture
def study(fake_study, boards):
    return on(fake_study, boards, search__trials=4)


def measured(boards):
    return [Counter(board.measured) for board in boards]


def front_of(study, device=None):
    with study.opened() as (opened, ledger):
        return read_front(opened, ledger, device)


def test_every_model_has_the_worst_case_and_the_figures_of_each_device(study):
    assert study.run().complete
    front = front_of(study)
    assert front.device == "fleet"
    assert len(front.points) >= 3
    for point in front.shown():
        costs = [point.metrics.value(f"cpu_ms_p50{at}") for at in ("", "@nano", "@pi5")]
        assert costs[0] == costs[1] == pytest.approx(NANO / PI5 * costs[2])
        assert point.metrics.intervals["cpu_ms_p50"] == point.metrics.intervals["cpu_ms_p50@nano"]


def test_the_report_ships_a_model_for_one_of_its_devices(study):
    study.run()
    with study.opened() as (stored, ledger):
        shown = read_report(stored, ledger, stored.name).to_json()
    assert shown["ship_options"] == f"--device {study.space.fleet_names[0]}"


def test_a_second_run_measures_nothing_again(study, boards):
    study.run()
    before = measured(boards), Counter(study.runner.runs)
    assert study.run().complete
    assert (measured(boards), study.runner.runs) == before


def test_a_device_that_was_measured_alone_before_is_not_measured_again(fake_study, boards):
    nano, pi5 = boards
    alone = fake_study.with_space(search__trials=0, study="alone", devices={"nano": "http://nano:8470"})
    replace(alone, device=nano).run()
    before = nano.measured.total()
    on(fake_study, boards, search__trials=0).run()
    assert (nano.measured.total(), pi5.measured.total()) == (before, before)


def test_weights_make_a_mean_of_the_devices(fake_study, boards):
    study = on(fake_study, boards, search__trials=2, fleet={"weights": {"nano": 1, "pi5": 3}})
    study.run()
    for point in front_of(study).points:
        nano, pi5 = (point.metrics.value(f"cpu_ms_p50@{name}") for name in ("nano", "pi5"))
        assert point.metrics.value("cpu_ms_p50") == pytest.approx((nano + 3 * pi5) / 4)


def test_each_device_may_have_objectives_and_limits_of_its_own(fake_study, boards):
    objectives = {"accuracy": "maximize", "cpu_ms_p50@nano": "minimize", "latency_ms_p50@pi5": "minimize"}
    limits = {"accuracy": {"max_drop": 0.03}, "cpu_ms_p50@nano": {"max": 7.0}}
    study = on(fake_study, boards, search__trials=3, objectives=objectives, limits=limits)
    assert study.run().complete
    front = front_of(study)
    assert front.points
    assert all(point.metrics.value("cpu_ms_p50@nano") <= 7.0 for point in front.points)
    over = [record for record in study.records().values() if record.outcome == "infeasible"]
    assert all("cpu_ms_p50@nano<=7" in record.reason for record in over)


def test_devices_measure_at_the_same_time(fake_study):
    """No measurement ends before the other device has begun one."""
    together = asyncio.Barrier(2)
    boards = [board("nano", together=together), board("pi5", together=together)]
    assert on(fake_study, boards, search__trials=0).run().complete
    nano, pi5 = boards
    assert nano.measured == pi5.measured


def test_a_fast_device_works_ahead_of_a_slow_one(fake_study):
    """The fast one measures the next model while the slow one has the present one."""
    slow, fast = board("slow", seconds=0.1), board("fast", seconds=0.001)
    study = on(fake_study, [slow, fast], search__trials=3)
    study.run()
    during = [sum(start <= began < end for began, _ in fast.busy) for start, end in slow.busy]
    assert max(during) >= 2


def test_a_model_that_one_device_cannot_hold_does_not_fit_and_the_reason_names_it(study, boards):
    def refuse(path):
        if json.loads(path.read_text())["cost_ms"] < 2.0:
            raise StageError("measure", "out_of_memory", "it needs 900 MB of 512 MB")

    boards[0].before = refuse
    assert study.run().complete
    reasons = {record.reason for record in study.records().values() if record.outcome == "does_not_fit"}
    assert reasons == {"device nano: it needs 900 MB of 512 MB"}
    assert not [record for record in study.records().values() if record.outcome == "failed"]
    assert boards[1].measured.total() > boards[0].measured.total() - len(reasons)  # what pi5 has measured is kept


@pytest.mark.long
def test_what_fails_on_one_device_fails_with_its_name(study, boards):
    def crash(path):
        if json.loads(path.read_text())["cost_ms"] < 2.0:
            raise StageError("measure", "crash", "boom")

    boards[1].before = crash
    study.run()
    records = [record for record in study.records().values() if record.duplicate_of is None]
    failed = {record.reason for record in records if record.outcome == "failed"}
    assert failed == {"measuring failed (crash): device pi5: boom"}


def test_the_run_waits_for_a_device_that_is_away_and_says_which(study, boards, monkeypatch):
    monkeypatch.setattr(availability, "OUTAGE_AFTER_S", 0.0)
    monkeypatch.setattr(availability, "POLL_S", 0.02)
    monkeypatch.setattr(outage, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(driver, "POLL_S", 0.01)
    pi5 = boards[1]
    pi5.deadline_s = 0.3
    measure, calls = pi5.measure, []

    async def leaving(*arguments):
        calls.append(arguments)
        if len(calls) > 6:
            pi5.outage = Outage(time.monotonic(), "no route to host")
            await asyncio.sleep(60.0)
        return await measure(*arguments)

    pi5.measure = leaving
    with pytest.raises(DeviceLost, match="^device pi5: no route to host .gave up after"):
        study.run()
    assert any(line.startswith("waits for device pi5, no answer for") for line in study.progress.waits_for)
    assert not any("nano" in line for line in study.progress.waits_for)
    pi5.measure, pi5.outage = measure, None
    assert study.run().complete


@pytest.mark.long
def test_a_study_goes_on_with_the_same_devices_and_rule_only(study, boards):
    study.run()
    weighted = study.with_space(fleet={"weights": {"nano": 1, "pi5": 1}})
    with pytest.raises(StudyError, match="another objective, task, data set, baseline or fleet"):
        weighted.run()
    more = on(study, [*boards, board("orin")])
    with pytest.raises(StudyError, match="What differs: devices: nano, pi5 -> nano, pi5, orin"):
        more.run()


def test_one_device_of_the_fleet_has_a_front_of_its_own(study):
    study.run()
    front, nano, pi5 = (front_of(study, device) for device in (None, "nano", "pi5"))
    assert (nano.device, pi5.device) == ("nano", "pi5")
    assert {point.trial for point in nano.points} == {point.trial for point in front.points}
    of_fleet = {point.trial: point.metrics for point in front.points}
    for point in pi5.points:
        assert point.metrics.value("cpu_ms_p50") == of_fleet[point.trial].value("cpu_ms_p50@pi5")
        assert not [name for name in point.metrics.figures if "@" in name]


@pytest.mark.long
def test_the_metrics_of_a_device_choose_and_sort_models(study):
    study.run()
    front = front_of(study)
    limit = sorted(point.metrics.value("cpu_ms_p50@pi5") for point in front.points)[1]
    chosen = Selection.of(f"cpu_ms_p50@pi5 <= {limit}", "-cpu_ms_p50@nano", front.metrics_of_devices)
    costs = [point.metrics.value("cpu_ms_p50@nano") for point in chosen.of_points(front.points)]
    assert len(costs) == 2
    assert costs == sorted(costs, reverse=True)


@pytest.mark.long
def test_a_trial_is_shown_with_the_measurements_and_stages_of_all_devices(study):
    study.run()
    with study.opened() as (opened, ledger):
        number = front_of(study).points[0].trial
        detail = read_detail(opened, ledger, study.pipeline(ledger).context.workspace.store, number)
    assert {row.device_id for row in detail.measurements} == {"id of nano", "id of pi5"}
    assert {"device nano", "device pi5"} <= {run.cost.ran_on for run in detail.stages if run.cost}


def test_the_accuracy_on_the_worst_device_is_told(study, boards):
    with_images = replace(study, device_images={"nano": 10, "pi5": 10})
    with_images.run()
    assert all(board.measured["outputs"] for board in boards)
    assert "baseline has accuracy 0.9000 on 10 images on device pi5" in with_images.progress.said
    assert all(point.on_device.n == 10 for point in front_of(with_images).points)


def test_each_device_judges_as_many_images_as_its_own_section_says(study, boards):
    replace(study, device_images={"nano": 0, "pi5": 10}).run()
    assert [bool(board.measured["outputs"]) for board in boards] == [False, True]
