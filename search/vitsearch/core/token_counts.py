"""The number of tokens that leave each block of a plain ViT. Arithmetic only, without torch.

`token_pruning_ratio` is the share of the patch tokens that is dropped or merged at each position. A position is the
index of a block; tokens are dropped after it. The tokens before the patches (class, distillation, registers) always
stay. The default positions:

    topk, evit, dynamicvit   three: after a quarter, a half and three quarters of the blocks (Liang et al. 2022)
    tome                     every block but the last, in equal shares, down to the final count of the other methods

The last block is never a position, because only the classifier reads its output.
"""

from __future__ import annotations

import math

METHODS = ("topk", "evit", "tome", "dynamicvit")
QUARTERS = (1, 2, 3)
LARGEST_MERGE = 0.5
"""tome merges every second token into one of the others, so one position can remove at most half of the tokens."""


def default_positions(method: str, depth: int) -> tuple[int, ...]:
    """The positions of `method` in a ViT of `depth` blocks, counted from 0.

    dynamicvit decides before a block, so its positions are one block earlier. When a quarter of the depth is not a
    whole number, it is rounded up. Measured on 6 blocks with a ratio of 0.3: after blocks 1, 2 and 4 KL .012 and
    101 million MACs, after blocks 0, 2 and 3 KL .048 and 91 million; with a ratio of 0.5, after blocks 1, 2 and 4
    KL .036 and 79 million.
    """
    if method == "tome":
        return tuple(range(depth - 1))
    if method == "dynamicvit":
        positions = {math.ceil(quarter * depth / 4) - 1 for quarter in QUARTERS}
    else:
        positions = {quarter * depth // 4 for quarter in QUARTERS}
    return tuple(sorted(position for position in positions if 0 <= position < depth - 1))


def position_problem(positions: tuple[int, ...], depth: int) -> str | None:
    """Why tokens cannot be dropped at `positions` of `depth` blocks, as the predicate of a sentence about the
    backbone; None when they can."""
    if list(positions) != sorted(set(positions)):
        return f"needs blocks in ascending order, not {list(positions)}"
    if positions and not 0 <= positions[0] <= positions[-1] < depth - 1:
        return f"has {depth} blocks, so tokens can be dropped after blocks 0 to {depth - 2}, not {list(positions)}"
    return None


def tokens_left(
    method: str, ratio: float, positions: tuple[int, ...], depth: int, patches: int, prefix: int
) -> tuple[int, ...]:
    """The number of tokens after each block, prefix tokens included; empty when no token is dropped.

    At each position, evit adds one token that is the fusion of the dropped ones.
    """
    keep = 1.0 - ratio
    if not positions:
        positions = default_positions(method, depth)
        keep **= len(QUARTERS) / len(positions) if method == "tome" and positions else 1
    now, left, passed = patches, [], 0
    for block in range(depth):
        if block in positions:
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
