"""What the terminal shows of the state of a study, letter by letter."""

from __future__ import annotations

from dataclasses import replace

from support.terminal import shown
from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import missing_notes, print_status, print_value_notes
from vitsearch.core.figures import Figure, Metrics
from vitsearch.space.changes import SpaceChange
from vitsearch.study.status import DiskUse, LeaderboardRow, PrintedLiveRun, Status

ONE_CLASS = "the model predicts one class only, 'Shirt'"
LEADERBOARD = """\
Leaderboard: unpruned models as they would be shipped
model             accuracy  cpu_ms_p50  latency_ms_p50  peak_memory_mb       size_mb      params_m        macs_m
fake_vit@28 fp32    0.8912         3.6    not measured    not measured  not measured  not measured  not measured
peak_memory_mb is not measured (all): VmHWM cannot be read"""


def row_of(plan, metrics, warnings=(), **shares):
    """A row of the leaderboard."""
    return LeaderboardRow(**vars(metrics.printed()), plan=plan.to_json(), shares=shares, warnings=tuple(warnings))


def test_a_reason_from_a_device_stays_on_its_line():
    note = missing_notes(["power_w"], {"4": Metrics.of({"power_w": None}, None, {"power_w": "no meter\n\x1b[2J"})})
    assert note == ["power_w is not measured (all): no meter\\n\\x1b[2J"]


def test_a_note_of_a_figure_without_a_value_is_shown():
    figures = {"accuracy": Figure(0.25, note="it is a guess"), "cosine": Figure(None, note="no image is left")}
    lines = shown(lambda console: print_value_notes({"trial 4": Metrics(figures)}, console)).splitlines()
    assert lines == ["trial 4: accuracy 0.25, but it is a guess", "trial 4: cosine is not known, but no image is left"]


def test_the_leaderboard_shows_what_is_in_int8(plan):
    int8 = replace(plan, deployments=(replace(plan.deployment, precision="int8_ptq"),))
    metrics = Metrics.of({"accuracy": 0.9, "cpu_ms_p50": 1.0})
    rows = [
        row_of(int8, metrics, int8=0.957, fp32=0.043),
        row_of(int8, metrics, ["int8 in name only"], fp32=0.99, int8=0.01),
    ]
    lines = shown(print_status, replace(STATE, leaderboard=rows)).splitlines()
    assert [line[:36].rstrip() for line in lines[-4:-2]] == [
        "fake_vit@28 int8_ptq (96% in int8)",
        "fake_vit@28 int8_ptq (1% in int8)",
    ]
    assert lines[-1] == "fake_vit@28 int8_ptq: int8 in name only"


def test_what_was_changed_in_the_space_is_a_line():
    change = SpaceChange("2026-11-27T10:00:00+00:00", 31, ("space.backbone: added x", "limits: none -> 1"))
    lines = shown(print_status, replace(STATE, space_changes=[change])).splitlines()
    assert lines[3] == "Space changed on 2026-11-27 after 31 trials: space.backbone: added x; limits: none -> 1"


RUN = PrintedLiveRun(
    user="ana",
    host="trainer-1",
    pid=12,
    purpose="search",
    since="2026-11-29T18:00:00+00:00",
    doing={},
    waits=None,
)
STATE = Status(
    study="fake",
    emulated=False,
    devices=("local@workstation",),
    trained=3,
    wanted=8,
    open=1,
    runs=(RUN,),
    search_end=None,
    space_changes=(),
    waits=None,
    outcomes={"dominated": 2, "confirmed": 3},
    failures={5: "training failed (not_finite): loss is nan"},
    objectives={"accuracy": "maximize", "cpu_ms_p50": "minimize"},
    data=None,
    reference_point=None,
    leaderboard=(),
    quality_warnings=(),
    cpu_seconds={"block_structure": 2.4, "train": 61.7, "export": 0.0},
    busy_share=0.756,
    trainer_seconds=61.2,
    device_seconds=80.4,
    reused_seconds=0.0,
    wall_seconds=100.0,
    eta=0.804,
    disk=DiskUse(
        database_bytes=3_400_000,
        files_bytes=60_100_000,
        files_place="studies/fake.files/artifacts",
        images_bytes=0,
        agent_bytes=95_000_000,
        other_bytes=20_400,
        shared_with=(),
        is_complete=True,
    ),
)


def test_what_a_study_takes_on_disk_is_a_line():
    parts = "files 60.1 MB, database 3.4 MB, local agent 95 MB, other 20.4 kB"
    assert f"On disk: 159 MB ({parts})" in shown(print_status, STATE).splitlines()


def test_what_was_not_counted_on_disk_is_said():
    elsewhere = {"files_bytes": None, "files_place": "s3://bucket/vit", "database_bytes": None, "agent_bytes": 0}
    disk = replace(STATE.disk, **elsewhere, shared_with=("other",), is_complete=False)
    state = replace(STATE, disk=disk)
    lines = shown(print_status, state).splitlines()
    says = "its files in s3://bucket/vit are not counted; shared with other"
    assert f"On disk: at least 20.4 kB (other 20.4 kB); {says}" in lines


def test_classes_that_are_missed_are_named(plan):
    missed = "trial 7, the knee, finds 12 of 150 'local': less than half of the mean recall, 0.61"
    assert missed in shown(print_status, replace(STATE, quality_warnings=(missed,))).splitlines()


def test_a_model_that_predicts_one_class_is_named_under_the_leaderboard(plan):
    metrics = Metrics.of({"accuracy": 0.1}, notes={"accuracy": ONE_CLASS})
    text = shown(print_status, replace(STATE, leaderboard=[row_of(plan, metrics)]))
    assert text.splitlines()[-1] == f"fake_vit@28 fp32: accuracy 0.1, but {ONE_CLASS}"


def test_what_was_emulated_is_marked_in_the_state_and_the_leaderboard(plan):
    rows = [row_of(plan, Metrics.of({"accuracy": 0.8912}))]
    lines = shown(print_status, replace(STATE, leaderboard=rows, emulated=True)).splitlines()
    assert [line.split(":")[0] for line in lines if "EMULATED" in line] == ["EMULATED", "EMULATED"]


def test_a_status_in_words():
    assert shown(print_status, STATE) == (
        "Study fake: 3 of 8 plans trained, 1 in progress\n"
        "Device: local@workstation\n"
        "Search run by ana on trainer-1 (pid 12) since 2026-11-29 18:00 UTC\n"
        "Outcomes: 3 confirmed, 2 dominated\n"
        "  trial 5: training failed (not_finite): loss is nan\n"
        "CPU-seconds: 64 (training 62, scoring heads and channels 2); 76% of the cores' time\n"
        "Seconds: trainers 61, devices 80, reused 0; a perfect schedule takes 80% of the 100 s\n"
        "On disk: 159 MB (files 60.1 MB, database 3.4 MB, local agent 95 MB, other 20.4 kB)"
    )


def test_a_run_that_waits_for_its_device_is_shown():
    waits = "waits for device nano, no answer for 3 min: no route to host"
    lines = shown(print_status, replace(STATE, waits=waits)).splitlines()
    assert lines[3] == f"A run {waits}"


def test_a_status_before_the_first_trial():
    text = shown(print_status, replace(STATE, outcomes={}, failures={}, trained=0, open=0, runs=()))
    first = ("Study fake: 0 of 8 plans trained, 0 in progress", "Device: local@workstation", "No run is under way")
    assert tuple(text.splitlines()[:3]) == first


def test_the_leaderboard_stands_below(plan):
    values = {"accuracy": 0.8912, "cpu_ms_p50": 3.6, "peak_memory_mb": None, "size_mb": None}
    metrics = Metrics.of(values, reasons={"peak_memory_mb": "VmHWM cannot be read"})
    rows = [row_of(plan, metrics)]
    text = shown(print_status, replace(STATE, leaderboard=rows, failures={}))
    assert "\n".join(text.splitlines()[7:]) == LEADERBOARD


def test_reasons_are_printed_literally():
    state = replace(STATE, failures={5: "exporting failed (crash): no [/home/ada/model.onnx] and no [bold]"})
    assert "  trial 5: exporting failed (crash): no [/home/ada/model.onnx] and no [bold]" in shown(print_status, state)


def test_what_looks_like_markup_is_shown_as_it_is():
    names = ["nut [left]", "nut [/x]"]
    text = shown(lambda console: console.print(Rows(["class"], [[name] for name in names], ["class"])))
    assert [line.strip() for line in text.splitlines()[1:]] == names


def test_what_a_run_does_and_waits_for_stands_below_it():
    doing = {"training a base: vit": "epoch 2/5, train accuracy 0.81, 40 s left"}
    waits = "waits for files s3://team/vit, 12 s so far: refused"
    lines = shown(print_status, replace(STATE, runs=(replace(RUN, doing=doing, waits=waits),))).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("Search run by ana on trainer-1"))
    assert lines[at + 1 : at + 3] == [
        "  training a base: vit, epoch 2/5, train accuracy 0.81, 40 s left",
        f"  {waits}",
    ]


def test_a_study_that_nobody_runs_says_so():
    assert "No run is under way" in shown(print_status, replace(STATE, runs=[])).splitlines()


def test_a_study_says_why_its_last_search_ended():
    ended = "8 plans trained"
    lines = shown(print_status, replace(STATE, runs=[], search_end=ended)).splitlines()
    assert f"No run is under way; the last search ended: {ended}" in lines
