"""What a study asks of its device: the two protocols of every study, and the phases that its metrics need.

throughput_ips              a throughput phase, in the screen too
latency_ms_sustained_p50    samples after a soak, when a model is confirmed
energy_mj, power_w          a power phase, when a model is confirmed, where the device has a meter
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsearch.core.metrics import NEEDS, split
from vitsearch_evaluators.base.canonical_json import digest
from vitsearch_evaluators.wire.protocol import CONFIRM, SCREEN, DeviceInfo, MeasureProtocol

if TYPE_CHECKING:
    from vitsearch.space.sections import Measure

SCREEN_THROUGHPUT_S = 1.0
"""At most so long when thousands are screened."""
STREAMS_MOST = 256
ID_LONGEST = 64


@dataclass(frozen=True)
class Phases:
    """Seconds of each phase, 0 for what no metric needs; the device's temperature before each process."""

    threads: int = 1
    throughput_s: float = 0.0
    soak_s: float = 0.0
    power_s: float = 0.0
    idle_s: float = 0.0
    start_max_c: float | None = None
    cooldown_max_s: float = 0.0

    @classmethod
    def of(cls, metrics: Iterable[str], measure: Measure) -> Phases:
        """``metrics`` are those of the objectives and the limits."""
        asked = {split(name)[0].name for name in metrics}

        def seconds(key: str, given: float) -> float:
            return given if asked & set(NEEDS[key]) else 0.0

        return cls(
            threads=measure.threads,
            throughput_s=seconds("throughput", measure.throughput_s),
            soak_s=seconds("soak", measure.soak_s),
            power_s=seconds("power", measure.power_s),
            idle_s=seconds("idle", measure.idle_s),
            start_max_c=measure.start_max_c,
            cooldown_max_s=0.0 if measure.start_max_c is None else measure.cooldown_s,
        )


@dataclass(frozen=True)
class Protocols:
    """``screen`` is for every model, ``confirm`` for those that are trained."""

    screen: MeasureProtocol = SCREEN
    confirm: MeasureProtocol = CONFIRM

    @classmethod
    def of(cls, phases: Phases, device: DeviceInfo) -> Protocols:
        """A power phase is left out where there is no meter: the driver says then what is not measured."""
        metered = device.power_meter is not None
        screen, confirm = (
            plain._replace(
                threads=phases.threads,
                streams=streams(device) if phases.throughput_s else 1,
                start_max_c=phases.start_max_c,
                cooldown_max_s=phases.cooldown_max_s,
            )
            for plain in (SCREEN, CONFIRM)
        )
        return cls(
            _named(screen._replace(throughput_s=min(phases.throughput_s, SCREEN_THROUGHPUT_S))),
            _named(
                confirm._replace(
                    throughput_s=phases.throughput_s,
                    soak_s=phases.soak_s,
                    power_s=phases.power_s if metered else 0.0,
                    idle_s=phases.idle_s if metered else 0.0,
                )
            ),
        )


PLAIN = Protocols()
"""Those of a study that asks for no phase."""


def streams(device: DeviceInfo) -> int:
    """One for each core that the agent may use."""
    cores = len(device.fingerprint.get("affinity") or ()) or device.fingerprint.get("cores") or 1
    return min(cores, STREAMS_MOST)


def _named(protocol: MeasureProtocol) -> MeasureProtocol:
    """The id tells everything that a study may set: rows of the ledger are found by it.

    In words while they fit a column of the ledger, else as a digest.
    """
    words = [protocol.id]
    if protocol.threads != 1:
        words.append(f"threads{protocol.threads}")
    if protocol.throughput_s:
        words.append(f"ips{protocol.throughput_s:.12g}x{protocol.streams}")
    if protocol.soak_s:
        words.append(f"soak{protocol.soak_s:.12g}")
    if protocol.power_s:
        words.append(f"power{protocol.power_s:.12g}-{protocol.idle_s:.12g}")
    if protocol.start_max_c is not None:
        words.append(f"cool{protocol.start_max_c:.12g}-{protocol.cooldown_max_s:.12g}")
    name = "+".join(words)
    return protocol._replace(id=name if len(name) <= ID_LONGEST else f"{protocol.id}+{digest(protocol.to_json())[:16]}")
