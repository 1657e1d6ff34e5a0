"""The two measurement protocols of a study, with the phases that its metrics need.

The screening measurement is short and runs for every model; the confirmation measurement runs for trained models.

throughput      a throughput phase, in both protocols
soak            samples after a soak, in the confirmation
power, idle     a power phase, in the confirmation, if the device has a meter

Which metrics need which is `vitsearch.core.metrics.NEEDS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsearch.core.metrics import NEEDS, needs_confirmation, split
from vitsearch.core.plan import Deployment
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN, DeviceInfo, MeasureProtocol

if TYPE_CHECKING:
    from vitsearch.space.sections import Measure

SCREEN_THROUGHPUT_S = 1.0
"""Longest throughput phase of a screening measurement, which runs for thousands of models."""
MAX_STREAMS = 256
MAX_ID_LENGTH = 64


@dataclass(frozen=True)
class Phases:
    """The length of each phase in seconds, 0 for a phase that no metric needs, and the temperature of the device at
    which a measuring process may start."""

    throughput_s: float = 0.0
    soak_s: float = 0.0
    power_s: float = 0.0
    idle_s: float = 0.0
    start_max_c: float | None = None
    cooldown_max_s: float = 0.0

    @classmethod
    def of(cls, metrics: Iterable[str], measure: Measure) -> Phases:
        """The phases for `metrics`, which are those of the objectives and the limits."""
        wanted = {split(name)[0].name for name in metrics}

        def seconds(key: str, configured_s: float) -> float:
            return configured_s if wanted & set(NEEDS[key]) else 0.0

        return cls(
            throughput_s=seconds("throughput", measure.throughput_s),
            soak_s=seconds("soak", measure.soak_s),
            power_s=seconds("power", measure.power_s),
            idle_s=seconds("idle", measure.idle_s),
            start_max_c=measure.start_max_c,
            cooldown_max_s=0.0 if measure.start_max_c is None else measure.cooldown_s,
        )


@dataclass(frozen=True)
class Protocols:
    """The screening protocol, for every model, and the confirmation protocol, for trained models."""

    screen: MeasureProtocol = SCREEN
    confirm: MeasureProtocol = CONFIRM

    @classmethod
    def of(cls, phases: Phases, device: DeviceInfo) -> Protocols:
        """The protocols for a device. Without a power meter they have no power phase; the driver then reports which
        metrics are not measured."""
        metered = device.power_meter is not None
        screen, confirm = (
            plain._replace(
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


def settled_by_screens(metrics: Iterable[str], measure: Measure) -> bool:
    """Whether screening measurements are enough for `metrics` where times are taken beside references. Throughput has
    no reference, and a phase of its own that is longer in a confirmation."""
    names = list(metrics)
    return not needs_confirmation(names) and not Phases.of(names, measure).throughput_s


PLAIN = Protocols()
"""The protocols of a study that needs no phase."""


def streams(device: DeviceInfo) -> int:
    """The number of streams of a throughput phase with one thread each: one for each core that the agent may use."""
    return min(cores_of(device) or 1, MAX_STREAMS)


def cores_of(device: DeviceInfo) -> int | None:
    """The number of cores that the agent may use; None where it does not say."""
    return len(device.fingerprint.get("affinity") or ()) or device.fingerprint.get("cores") or None


def for_deployment(protocol: MeasureProtocol, deployment: Deployment) -> MeasureProtocol:
    """The protocol of a deployment, whose streams share the cores unless it says how many they are.

    Args:
        protocol: One for a single thread.
        deployment: Its threads and streams are those of the runs.

    Returns:
        The same protocol, under the same id, for such runs.
    """
    room = max(1, protocol.streams // deployment.threads)
    streams = (deployment.streams or room) if protocol.throughput_s else 1
    return protocol._replace(threads=deployment.threads, streams=streams)


def _named(protocol: MeasureProtocol) -> MeasureProtocol:
    """The protocol with an id that contains everything a study can set, because rows of the ledger are found by it.
    Threads and streams are those of a deployment, and in the key of its graph.

    The id is readable if it fits into the ledger's column, otherwise it ends in a digest.
    """
    words = [protocol.id]
    if protocol.throughput_s:
        words.append(f"ips{protocol.throughput_s:.12g}x{protocol.streams}")
    if protocol.soak_s:
        words.append(f"soak{protocol.soak_s:.12g}")
    if protocol.power_s:
        words.append(f"power{protocol.power_s:.12g}-{protocol.idle_s:.12g}")
    if protocol.start_max_c is not None:
        words.append(f"cool{protocol.start_max_c:.12g}-{protocol.cooldown_max_s:.12g}")
    name = "+".join(words)
    return protocol._replace(
        id=name if len(name) <= MAX_ID_LENGTH else f"{protocol.id}+{digest(protocol.to_json())[:16]}"
    )
