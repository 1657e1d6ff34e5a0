"""How long the stages of a search take: what those of its study took, else means of the quickstart."""

from __future__ import annotations

from collections.abc import Mapping

from vitsearch.core.stage import Stage
from vitsearch.search.watch.time_estimate import CONFIRM_PER_SCREEN
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger, has_tables, is_there, sqlite_file
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN

SCREENING, CONFIRMING = (f"{Stage.MEASURE} {protocol.id}" for protocol in (SCREEN, CONFIRM))
TYPICAL_S: Mapping[str, float] = {
    Stage.SCREEN: 1.4,
    Stage.PROXY: 1.3,
    Stage.EXPORT: 4.3,
    SCREENING: 3.6,
    CONFIRMING: 12.5,
}
"""Mean wall seconds of each stage of the quickstart (28 pixels) on 2 cores, in a run of 2026-11-28."""
ALONE_SHARE = 0.6
"""Of the time of the trainers or the device, whichever worked less: while the other one waited. Six runs took 7.1 to 67
minutes, within 5 % of the longer time and this share of the shorter one."""


def stage_seconds(space: SearchSpace) -> tuple[Mapping[str, float], str]:
    """Mean seconds of each stage, and where they are from: the database of the study if it has them."""
    file = sqlite_file(space.storage)
    typical = "means of the quickstart on 2 cores; larger models take longer"
    if file is None or not is_there(file) or not has_tables(space.storage, "vs_stage_cost"):
        return TYPICAL_S, typical
    ledger = Ledger.to_read(space.storage)
    try:
        means = ledger.costs.means()
    finally:
        ledger.close()
    if not TYPICAL_S.keys() - {CONFIRMING} <= means.keys():
        return TYPICAL_S, typical
    unconfirmed = {CONFIRMING: CONFIRM_PER_SCREEN * means[SCREENING]}  # where a search takes none
    return unconfirmed | means, f"means of what is in {file}"


def wall_seconds(each_trainer_s: float, device_s: float) -> float:
    """The time of trainers and a device that work side by side."""
    return max(each_trainer_s, device_s) + ALONE_SHARE * min(each_trainer_s, device_s)
