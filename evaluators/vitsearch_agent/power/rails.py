"""The rails of a Jetson that make up its total power. The labels are those of NVIDIA's device trees.

    VDD_IN                                  TX1, TX2, Xavier NX, Orin Nano, Orin NX: the module's input
    POM_5V_IN                               Nano: the module's input
    VIN                                     Thor: the input of the board
    VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0  AGX Orin. VIN_SYS_5V0 is the 5 V supply of the other parts, not the
                                            total (jetson_stats#344); it feeds VDDQ_VDD2_1V8AO
    GPU + CPU + SOC + CV + VDDRQ + SYS5V    AGX Xavier: six separate supplies

Rails may feed each other, so a sum over other rails could count power twice. Other rails are added up only
when the device's configuration names them; the scope is then `rails`.
"""

from typing import Collection, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.power.base import MeterValue, plausible

TOTALS = (
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VIN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)

CARRIER: FrozenSet[str] = frozenset(
    (
        "VDD_MUX",
        "VDD_5V_IO_SYS",
        "VDD_5V0_IO_SYS",
        "VDD_3V3_SYS",
        "VDD_3V3_IO",
        "VDD_3V3_IO_SLP",
        "VDD_1V8_IO",
        "VDD_M2_IN",
        "VDD_3V3_SYS_M2",
    )
)
"""Rails of the carrier boards of TX1 and TX2. VDD_MUX is fed beside the module's VDD_IN, not by it (energymon,
jetson/JetsonPowerRails.md), so that it may be larger."""

OPTION_READERS: Mapping[str, json_reader.Reader] = {"rails": json_reader.sequence(json_reader.text, 32)}


class RailChoice(NamedTuple):
    """The rails to add up and the scope of their sum; no rails and the reason when there is no total."""

    labels: Tuple[str, ...]
    scope: str
    reason: Optional[str]


def choose(present: Collection[str], configured: Optional[Sequence[str]] = None) -> RailChoice:
    """Return the rails that make up the total, or the configured rails."""
    if configured:
        missing = [label for label in configured if label not in present]
        if missing:
            return _none(f"no rail {', '.join(missing)}; the device has {_listed(present)}")
        return RailChoice(tuple(configured), "rails", None)
    for total in TOTALS:
        if all(label in present for label in total):
            return RailChoice(total, "module", None)
    if not present:
        return _none("no rail has a label")
    return _none(
        f"no known total among the rails {_listed(present)}: list those to add up in power.options.rails of config.json"
    )


def total_w(powers_mw: Mapping[str, float], labels: Sequence[str]) -> MeterValue:
    """Return the sum in watts; an offset can make a single rail negative, but the total must not be."""
    missing = [label for label in labels if label not in powers_mw]
    if missing:
        return MeterValue(None, f"no value of {', '.join(missing)}")
    return plausible(sum(powers_mw[label] for label in labels) / 1e3, " + ".join(labels))


def mislabelled(total_w: float, chosen: RailChoice, powers_mw: Mapping[str, float]) -> Optional[str]:
    """Return why the chosen rails are not the module's input: another of its rails uses more. None if they may be it.

    A release for the Jetson Nano swaps the labels of the input and of the GPU's rail. The rails of a carrier board
    are not the module's.
    """
    outside = CARRIER.union(chosen.labels)
    others = {label: power_mw / 1e3 for label, power_mw in powers_mw.items() if label not in outside}
    largest = max(others, key=lambda label: others[label], default=None)
    if chosen.scope != "module" or largest is None or others[largest] <= total_w:
        return None
    return (
        f"the module's total {' + '.join(chosen.labels)} is {total_w:.3g} W, less than its rail {largest} with "
        f"{others[largest]:.3g} W: the labels are wrong; name the input's rail in power.options.rails of config.json"
    )


def _none(reason: str) -> RailChoice:
    return RailChoice((), "", reason)


def _listed(labels: Collection[str]) -> str:
    return ", ".join(sorted(labels)[:16]) or "none"
