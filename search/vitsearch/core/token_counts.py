"""How many tokens each block of a plain ViT leaves: arithmetic, no torch.

``token_pruning_ratio`` is the share of the patch tokens that goes at each place; tokens in front of them
(class, distillation, registers) always stay. Where no places are named:

    topk, evit, dynamicvit   three places, a quarter, a half and three quarters of the way (Liang et al. 2022)
    tome                     every block but the last, in equal shares, down to what the others end with

Nothing but the classifier reads what the last block gives, so it is never a place.
"""

from __future__ import annotations

import math

METHODS = ("topk", "evit", "tome", "dynamicvit")
QUARTERS = (1, 2, 3)
LARGEST_MERGE = 0.5
"""tome pairs every second token with one of the others, so at most half can go at once."""


def default_places(method: str, depth: int) -> tuple[int, ...]:
    """Blocks, from 0, of a ViT of ``depth`` blocks. dynamicvit decides in front of a block, so one earlier;
    where a quarter is no whole number of blocks it waits for the next (0.3 on 6 blocks: behind 1, 2 and 4
    KL .012 and 101 million MACs, behind 0, 2 and 3 .048 and 91; 0.5 behind 1, 2 and 4 .036 and 79)."""
    if method == "tome":
        return tuple(range(depth - 1))
    if method == "dynamicvit":
        places = {math.ceil(quarter * depth / 4) - 1 for quarter in QUARTERS}
    else:
        places = {quarter * depth // 4 for quarter in QUARTERS}
    return tuple(sorted(place for place in places if 0 <= place < depth - 1))


def refused_places(places: tuple[int, ...], depth: int) -> str | None:
    """Why tokens cannot be dropped behind ``places`` of ``depth`` blocks, as the end of a sentence."""
    if list(places) != sorted(set(places)):
        return f"places must rise: {list(places)}"
    if places and not 0 <= places[0] <= places[-1] < depth - 1:
        return f"has {depth} blocks, so tokens can be dropped behind blocks 0 to {depth - 2}, not {list(places)}"
    return None


def tokens_left(
    method: str, ratio: float, places: tuple[int, ...], depth: int, patches: int, prefix: int
) -> tuple[int, ...]:
    """Tokens behind each block, prefix tokens included; empty when no token goes.

    evit adds one token, into which it fuses the others, at each place.
    """
    keep = 1.0 - ratio
    if not places:
        places = default_places(method, depth)
        keep **= len(QUARTERS) / len(places) if method == "tome" and places else 1
    now, left, passed = patches, [], 0
    for block in range(depth):
        if block in places:
            passed += 1
            now = _after(method, now, max(1, math.ceil(patches * keep**passed - 1e-9)))
        left.append(prefix + now)
    return tuple(left) if now < patches else ()


def _after(method: str, now: int, wanted: int) -> int:
    if method == "tome":
        wanted = max(wanted, now - math.floor(now * LARGEST_MERGE))
    if method == "evit":
        wanted += 1
    return min(now, wanted)
