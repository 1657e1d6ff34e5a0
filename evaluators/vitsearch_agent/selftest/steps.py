"""The steps of a selftest. Each returns what it found; what it raises is a failed step."""

import os
import shutil
import signal
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent import runtimes
from vitsearch_agent.client.client import RequestOptions
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.conditions.processor import translator
from vitsearch_agent.config import FILE_NAME
from vitsearch_agent.measure.child_checks import check_restrictions
from vitsearch_agent.measure.power_phase import MeteredPhase
from vitsearch_agent.power.survey import survey
from vitsearch_agent.runtime_facts import FORMATS
from vitsearch_agent.selftest.reference_runs import ReferenceRuns
from vitsearch_agent.selftest.report import FAILED, PASSED, SKIPPED, Finding
from vitsearch_agent.wire.device_info import ANY_ARTIFACT, RuntimeInfo
from vitsearch_agent.wire.events import Event
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS, PEAKS, SCREEN, MeasureProtocol
from vitsearch_agent.wire.measurement import Measurement
from vitsearch_agent.wire.paired import Milliseconds

SHORT = ONE_PROCESS._replace(
    id="selftest-1", warmup_min_runs=2, warmup_min_s=0.0, min_runs=11, min_s=0.5, timeout_s=600.0
)
"""For what is not compared, and for devices on which a screening measurement of the larger model takes minutes."""
REFERENCE_FORMATS = frozenset(kind for kind, form in FORMATS.items() if form.references is not None)
"""Of the reference models."""
AGREES_WITHIN = 0.03
"""Repeats that differ by less agree, however narrow their intervals are."""


class Settings(NamedTuple):
    """How long the steps take.

    Attributes:
        seconds: After these no further step starts, and the one that runs ends.
        repeats: How often each reference model is measured.
        slow_ms: A model that takes longer is measured by `short` instead of `screen`, and twice.
        load_s: How long the device computes without a pause, for its temperature.
        power_s: How long it does so while its meter is read.
        idle_s: The rests before and after that.
        screen: The protocol of repeated measurements.
        short: That of all others.
        peaks: That of products of matrices.
    """

    seconds: float = 600.0
    repeats: int = 3
    slow_ms: float = 100.0
    load_s: float = 90.0
    power_s: float = 10.0
    idle_s: float = 3.0
    screen: MeasureProtocol = SCREEN
    short: MeasureProtocol = SHORT
    peaks: MeasureProtocol = PEAKS


def restrictions(runs: ReferenceRuns) -> Finding:
    """Find out what a measured model is kept from here."""
    held = check_restrictions(runs.job_folder("restrictions"))
    missing = [f"{restriction.name} ({restriction.detail})" for restriction in held if not restriction.holds]
    details = {"restrictions": [restriction.to_json() for restriction in held]}
    if missing:
        return Finding(SKIPPED, f"a model is not kept from: {'; '.join(missing)}", details)
    return Finding(PASSED, f"a model is kept from: {', '.join(restriction.name for restriction in held)}", details)


def find_runtimes(runs: ReferenceRuns) -> Finding:
    """Import each runtime in a process of its own."""
    infos = [runs.check(name) for name in runtimes.table()]
    details = {"runtimes": [info.to_json() for info in infos]}
    real = [info for info in infos if info.available and ANY_ARTIFACT not in info.artifacts]
    if not real:
        reasons = "; ".join(f"{info.name}: {info.reason}" for info in infos if not info.available)
        return Finding(SKIPPED, f"no runtime is installed ({reasons})", details)
    return Finding(PASSED, ", ".join(f"{info.name} {info.version}" for info in real), details)


def precisions(runs: ReferenceRuns, info: RuntimeInfo, settings: Settings) -> Finding:
    """Multiply matrices in fp32, fp16 and int8: how fast the runtime is in each, compared with fp32."""
    peaks = runs.peaks(info, settings.peaks)
    single = {gemm.precision: gemm.gflops.best for gemm in peaks.gemm if gemm.threads == 1}
    details = {"peaks": peaks.to_json()}
    if not single:
        return Finding(SKIPPED, "; ".join(f"{name}: {reason}" for name, reason in peaks.reasons.items()), details)
    base = single.get("fp32")
    words = [
        f"{name} {rate:.1f} GFLOP/s" + ("" if base is None or name == "fp32" else f" ({rate / base:.1f} x fp32)")
        for name, rate in single.items()
    ]
    words += [f"no {name} ({peaks.reasons[name]})" for name in ("fp32", "fp16", "int8") if name in peaks.reasons]
    return Finding(PASSED, ", ".join(words), details)


def meters(runs: ReferenceRuns) -> Finding:
    """Read every power meter."""
    readings = survey(runs.config.power, runs.system)
    details = {"meters": [reading._asdict() for reading in readings]}
    in_use = next((reading for reading in readings if reading.in_use), None)
    if in_use is None or in_use.watts is None:
        reasons = "; ".join(f"{reading.name}: {reading.reason}" for reading in readings)
        return Finding(SKIPPED, f"no power meter ({reasons})", details)
    return Finding(PASSED, f"{in_use.name} {in_use.watts:.2f} W ({in_use.scope})", details)


class Agreement(NamedTuple):
    """How far repeats of one measurement lie apart: (largest - smallest) / smallest, and whether that is noise."""

    spread: float
    holds: bool


def agreement(times: Sequence[Milliseconds]) -> Agreement:
    """Return how repeats agree: they do within AGREES_WITHIN, or where one value lies in all of their intervals."""
    values = [time.p50 for time in times]
    spread = max(values) / min(values) - 1.0
    lows = [time.low for time in times if time.low is not None]
    highs = [time.high for time in times if time.high is not None]
    shares_value = len(lows) == len(highs) == len(times) and max(lows) <= min(highs)
    return Agreement(spread, spread <= AGREES_WITHIN or shares_value)


def repeatability(runs: ReferenceRuns, info: RuntimeInfo, settings: Settings) -> Finding:
    """Measure two reference models in turn, several times."""
    models = runs.models(info)
    firsts = [runs.measure(model, info, settings.short) for model in models]
    slow = [first.latency_ms.p50 > settings.slow_ms for first in firsts]
    measured = [[first] if is_slow else [] for first, is_slow in zip(firsts, slow)]
    for index in range(settings.repeats):
        for model, is_slow, repeats in zip(models, slow, measured):
            if not is_slow or index == 0:
                repeats.append(runs.measure(model, info, settings.short if is_slow else settings.screen))
    names = [model.name for model in models]
    times = {name: [repeat.shown_latency_ms for repeat in repeats] for name, repeats in zip(names, measured)}
    details = {name: [repeat.to_json() for repeat in repeats] for name, repeats in zip(names, measured)}
    return judge_repeats(times, translator(runs.system))._replace(details={"measurements": details})


def judge_repeats(times: Dict[str, List[Milliseconds]], translated_by: Optional[str]) -> Finding:
    """Judge the repeats of each model, by its name. What translates instructions takes a time of its own for them: then
    repeats that differ are no failure of the device."""
    words: List[str] = []
    apart: List[str] = []
    for name, repeats in times.items():
        agrees = agreement(repeats)
        words.append(f"{name} {', '.join(f'{time.p50:.3f}' for time in repeats)} ms ({agrees.spread:.1%} apart)")
        apart += [] if agrees.holds else [name]
    if not apart:
        return Finding(PASSED, "; ".join(words))
    if translated_by is not None:
        return Finding(
            SKIPPED, "; ".join([*words, "instructions are translated: these are not the times of a real device"])
        )
    advice = f"{' and '.join(apart)}: more than the intervals explain; end other programs and set a fixed power mode"
    return Finding(FAILED, "; ".join([*words, advice]))


def heat(runs: ReferenceRuns, info: RuntimeInfo, settings: Settings) -> Finding:
    """Compute without a pause, and watch temperature, throttling and the meter."""
    if translator(runs.system) is not None:
        return Finding(SKIPPED, "instructions are translated: what heats is another machine")
    phase = MeteredPhase(runs.config.power, runs.system)
    protocol = settings.short._replace(soak_s=settings.load_s)
    if phase.unavailable_reason() is None:
        protocol = protocol._replace(power_s=settings.power_s, idle_s=settings.idle_s)
    measurement = runs.measure(runs.models(info)[0], info, protocol, phase)
    temperature, throttling = measurement.temperature, measurement.reasons.get("throttling")
    throttled = "throttled" in measurement.flags
    words = [_heat_words(measurement)]
    words.append(f"throttled: {throttling}" if throttled else f"throttling: {throttling or 'none'}")
    if measurement.sustained is not None:
        change = measurement.sustained.p50 / measurement.latency_ms.p50 - 1
        words.append(f"{change:+.1%} time after {settings.load_s:g} s of load")
    if measurement.power is not None:
        words.append(f"{measurement.power.mean_w:.2f} W under load ({measurement.power.source})")
    is_known = temperature is not None or throttled or throttling is None
    return Finding(PASSED if is_known else SKIPPED, ", ".join(words), {"measurement": measurement.to_json()})


def _heat_words(measurement: Measurement) -> str:
    temperature = measurement.temperature
    if temperature is None:
        return f"temperature: {measurement.reasons.get('temperature', 'unknown')}"
    return f"{temperature.start_c:.0f} to {temperature.max_c:.0f} C ({temperature.zone})"


def kill_and_resume(runs: ReferenceRuns, info: RuntimeInfo, settings: Settings) -> Finding:
    """Kill an agent in the middle of a measurement: the next one on its state folder has to finish the job."""
    model = runs.models(info)[-1]
    state = os.path.join(runs.folder, "state")
    os.makedirs(state, mode=0o700)
    if runs.state is not None and os.path.exists(os.path.join(runs.state, FILE_NAME)):
        shutil.copy(os.path.join(runs.state, FILE_NAME), state)
    killed: List[int] = []
    seen: List[str] = []

    def kill(event: Event) -> None:
        seen.append(event.what)
        if event.what == "phase" and not killed:
            killed.append(agent.pid)
            os.kill(agent.pid, signal.SIGKILL)

    request = RequestOptions(on_event=kill)
    with EmbeddedAgent(state) as agent, agent.client("selftest") as client:
        measurement = client.measure(model.path, info.name, model.options, settings.short, request=request)
        device = client.device()
    details = {"device": device.to_json(), "events": seen, "measurement": measurement.to_json()}
    if not killed or measurement.attempts < 2:
        return Finding(FAILED, f"the job of a killed agent was not repeated: attempt {measurement.attempts}", details)
    return Finding(PASSED, f"the killed job was finished by the next agent, in attempt {measurement.attempts}", details)


def load_for(infos: Sequence[RuntimeInfo]) -> Tuple[List[RuntimeInfo], Optional[RuntimeInfo]]:
    """Return the runtimes that run the reference models, and the one for a load: without them what hashes instead."""
    real = [info for info in infos if info.available and REFERENCE_FORMATS.intersection(info.artifacts)]
    others = [info for info in infos if info.available and ANY_ARTIFACT in info.artifacts]
    return real or others, next(iter(real + others), None)


def without_models(infos: Sequence[RuntimeInfo]) -> List[RuntimeInfo]:
    """Return the runtimes that are there and read none of the reference models."""
    readable = REFERENCE_FORMATS | {ANY_ARTIFACT}
    return [info for info in infos if info.available and not readable.intersection(info.artifacts)]
