"""What the name of a precision promises, and what a file keeps of it: the shares of its MACs by precision.

The shares are read by `vitsearch.export.precision_shares`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vitsearch.core.policy import POLICY

PROMISED: Mapping[str, str] = MappingProxyType(
    {
        "fp16": "fp16",
        "bf16": "bf16",
        "int8_dynamic": "int8",
        "int8_ptq": "int8",
        "int8_qat": "int8",
        "int8_mixed": "int8",
    }
)
"""Precision of a plan -> the precision of the arithmetic that it promises. Others promise a smaller file only."""


def shown(precision: str, shares: Mapping[str, float]) -> str:
    """A few words for a table, such as `96% in int8`; empty for fp32, and where the shares are unknown."""
    if not shares or set(shares) == {precision}:
        return ""
    kind = PROMISED.get(precision) or next(iter(shares))
    return "" if kind == "fp32" else f"{percent(shares.get(kind, 0.0))} in {kind}"


def in_name_only(precision: str, shares: Mapping[str, float]) -> str | None:
    """One sentence, when next to nothing is computed in the precision that the name promises."""
    kind = PROMISED.get(precision)
    if kind is None or not shares or (share := shares.get(kind, 0.0)) >= POLICY.asking.share_in_name_only:
        return None
    rest, most = next(iter(shares.items()))
    return f"{kind} in name only: {percent(share)} of its MACs, {percent(most)} are in {rest}"


def percent(share: float) -> str:
    """Whole percents, but neither 0 nor 100 for what is not quite it."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"
