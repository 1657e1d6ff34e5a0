"""What a process may claim: everything that a sound one reports, and nothing beyond what was seen of it."""

import math

import pytest

from support.process_reports import process_report
from vitsearch_agent.measure.child.phase_reports import Block, PairedBlock, PowerReport, ThroughputReport
from vitsearch_agent.measure.figures.plausibility import Bounds, of_sizes
from vitsearch_agent.measure.seen import Seen
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.wire.measure_protocol import MOST_RUNS, SCREEN

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

BOUNDS = Bounds(SCREEN, False, 2, RunShapes(1, {"images": (1, 8)}))
PROGRAM = BOUNDS._replace(is_program=True)


@st.composite
def sound(draw):
    """Draw a report and what is seen of a process that has run the protocol, and its threads."""
    seconds = st.floats(0.0, 5.0)
    shortest = 10 ** draw(st.floats(-3.5, 2.0))
    wall_ms = [shortest * slower for slower in draw(st.lists(st.floats(1.0, 50.0), min_size=24, max_size=60))]
    busy = draw(st.floats(0.0, 2.0))
    cpu_ms = [busy * time for time in wall_ms]
    blocks = [Block(cpu_ms[index], wall_ms[index]) for index in range(0, len(wall_ms) - 8, 3)][:8]
    reference = Block(draw(st.floats(0.1, 1.0)), draw(st.floats(1.0, 5.0)))
    bursts = (tuple(PairedBlock(block, reference, reference) for block in blocks),)
    load_s, first_s, rest_s = draw(seconds), draw(seconds), draw(seconds)
    baseline_mb, peak_mb = draw(st.floats(10.0, 200.0)), draw(st.floats(0.0, 4000.0))
    # Each block has at least three runs, and the references have run beside it.
    ran_s = math.fsum(wall_ms) / 1e3 + 0.1 * len(blocks) + 3 * math.fsum(block.wall_ms for block in blocks) / 1e3
    wall_s = load_s + first_s + SCREEN.warmup_min_s + max(ran_s, SCREEN.min_s) + rest_s + 0.001
    cpu_s = math.fsum(cpu_ms) / 1e3 + draw(seconds)
    report = process_report(
        wall_ms,
        cpu_ms=tuple(cpu_ms),
        load_ms=1e3 * load_s,
        first_inference_ms=1e3 * first_s,
        runtime_baseline_mb=baseline_mb,
        peak_memory_mb=peak_mb,
        scheduler_cpu_s=cpu_s,
        bursts=bursts,
    )
    return report, Seen(100.0, 100.0 + wall_s, cpu_s, (baseline_mb + peak_mb) * draw(st.floats(0.1, 1.2)))


def problem(report, seen, bounds=BOUNDS, is_started=True, soak_s=0.0):
    return bounds.of_process(report, seen, is_started, soak_s)


def test_a_sound_process_is_never_refused(fuzz):
    @hypothesis.given(sound())
    @fuzz(300)
    def check(process):
        assert problem(*process) is None

    check()


@st.composite
def impossible(draw):
    """Draw a sound process of which one claim was made impossible, and the words that say so."""
    report, seen = draw(sound())
    beyond = draw(st.floats(1.1, 1e6))
    longer = tuple(time * beyond * seen.wall_s * 1e3 / math.fsum(report.wall_ms) for time in report.wall_ms)
    busier_ms = beyond * (seen.cpu_s + 0.1) * 1e3 / len(report.cpu_ms)
    short = draw(st.floats(0.0, 9e-6))
    claims = [
        ("there for", {"wall_ms": longer, "bursts": ()}),
        ("there for", {"load_ms": beyond * seen.wall_s * 1e3}),
        ("there for", {"first_inference_ms": beyond * seen.wall_s * 1e3}),
        ("cannot show", {"wall_ms": (short,) * len(report.wall_ms), "bursts": ()}),
        ("of the runs", {"cpu_ms": (busier_ms,) * len(report.cpu_ms), "bursts": ()}),
        ("while sampling", {"scheduler_cpu_s": beyond * seen.cpu_s + 0.1}),
        ("CPU times", {"cpu_ms": report.cpu_ms[1:]}),
        ("batch", {"batch": draw(st.integers(2, 4096))}),
        ("shape", {"shapes": {"images": (1, draw(st.integers(9, 999)))}}),
        ("no memory", {draw(st.sampled_from(["peak_memory_mb", "runtime_baseline_mb"])): None}),
        ("are needed", {"wall_ms": report.wall_ms[:10]}),
    ]
    words, claim = draw(st.sampled_from(claims))
    return report._replace(**claim), seen, words


def test_a_claim_beyond_what_was_seen_is_refused(fuzz):
    @hypothesis.given(impossible())
    @fuzz(500)
    def check(process):
        report, seen, words = process
        assert words in problem(report, seen)

    check()


def test_a_block_that_no_runs_of_the_process_can_have_given_is_refused(fuzz):
    @hypothesis.given(sound(), st.floats(1.001, 1e6), st.booleans(), st.sampled_from(["model", "products"]))
    @fuzz(200)
    def check(process, factor, is_longer, which):
        report, seen = process
        pair = report.bursts[0][0]
        block = Block(0.0, max(report.wall_ms) * factor if is_longer else min(report.wall_ms) / factor)
        claimed = pair._replace(**{which: block if which == "model" else Block(0.0, 1e3 * seen.wall_s * factor)})
        assert "block" in problem(report._replace(bursts=((claimed, *report.bursts[0][1:]),)), seen)

    check()


def test_memory_beyond_what_a_process_reports_is_refused_unless_it_shares_it():
    report = process_report([10.0] * 24, cpu_ms=(10.0,) * 24)
    seen = Seen(0.0, 10.0, 5.0, 400.0)
    assert problem(report, seen) == "a peak of 60 MB of memory; 400 MB were seen"
    assert problem(report, seen, is_started=False) is None
    assert problem(report, seen._replace(peak_mb=120.0)) is None
    assert problem(report, seen._replace(peak_mb=None)) is None


def test_runs_end_early_only_when_there_are_most_of_them():
    seen = Seen(0.0, 0.5, 0.5, None)
    many = process_report([0.01] * MOST_RUNS, scheduler_cpu_s=0.1)
    assert problem(many, seen) is None
    assert "take 1.11 s by the protocol" in problem(many._replace(wall_ms=many.wall_ms[1:]), seen)
    assert "take 60.1 s" in problem(process_report([0.01] * 12), Seen(0.0, 50.0, 0.5, None)), "too few runs, so `max_s`"
    assert "0 s by" not in problem(process_report([10.0] * 24), Seen(0.0, 5.0, 1.0, None), soak_s=10.0)


def test_a_program_reports_the_times_of_runs_that_overlap():
    report = process_report([10.0] * 100, cpu_ms=(), runtime_baseline_mb=None, scheduler_cpu_s=None)
    assert problem(report, Seen(0.0, 0.6, 0.1, None), PROGRAM) is None
    assert "there for 0.2 s" in problem(report, Seen(0.0, 0.2, 0.1, None), PROGRAM)


def test_sizes_are_compared_where_they_are_known():
    assert of_sizes(RunShapes(7, {"x": (7,)}), None) is None
    assert of_sizes(RunShapes(7, None), RunShapes(7, {"x": (7,)})) is None
    assert of_sizes(RunShapes(7, {"x": (7, 2), "state": (3,)}), RunShapes(7, {"x": (7, 2)})) is None
    assert of_sizes(RunShapes(8, None), RunShapes(7, None)) == "batch 8; it is 7 by the job and the model's file"
    assert "shape [7, 3] of x; it is [7, 2]" in of_sizes(RunShapes(7, {"x": (7, 3)}), RunShapes(7, {"x": (7, 2)}))


THROUGHPUT = BOUNDS._replace(protocol=SCREEN._replace(throughput_s=2.0, streams=4))


@pytest.mark.parametrize(
    ("report", "wall_s", "words"),
    [
        (ThroughputReport(4000.0, 1000, (7.0,) * 1000), 3.0, None),
        (ThroughputReport(4000.0, 1000, ()), 3.0, None),
        (ThroughputReport(4000.0, 1000, (7.0,) * 1000), 1.9, "a process of 1.9 s cannot have run the model for 2 s"),
        (ThroughputReport(9000.0, 1000, ()), 3.0, "at most 5000"),
        (ThroughputReport(4000.0, 1000, (30.0,) * 1000), 3.0, "1000 runs of 30 ms in 4 streams within 3 s"),
        (ThroughputReport(4000.0, 1000, (0.0,) * 1000), 3.0, "a median of 0 ms"),
    ],
)
def test_the_rate_of_streams_is_that_of_their_runs(report, wall_s, words):
    reason = THROUGHPUT.of_throughput(report, Seen(0.0, wall_s, 9.0, None), batch=8)
    assert reason is None if words is None else words in reason


@pytest.mark.parametrize(
    ("windows", "inferences", "words"),
    [
        (((1.0, 2.0), (2.0, 4.0), (4.0, 5.0)), 400, None),
        (((1.0, 2.0), (2.0, 4.0), (4.0, 5.0)), 10**6, "1000000 inferences in 2 s of a model of 5 ms"),
        (((0.5, 2.0), (2.0, 4.0), (4.0, 5.0)), 400, "not in order"),
        (((1.0, 2.0), (2.0, 4.0), (4.0, 7.0)), 400, "not in order"),
        (((1.0, 2.0), (4.0, 2.0), (4.0, 5.0)), 400, "not in order"),
        (((1.0, 2.0), (2.0, 2.0), (4.0, 5.0)), 400, "took no time"),
    ],
)
def test_the_windows_of_a_power_phase_are_in_its_process(windows, inferences, words):
    reason = BOUNDS.of_power(PowerReport(*windows, inferences), Seen(1.0, 6.0, 9.0, None), batch=1, fastest_ms=5.0)
    assert reason is None if words is None else words in reason
