"""A context file of a bundle with what was seen of it, as its card, its files and the terminal show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsearch.targets.onnxruntime.qnn.contexts import Context

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """What the emulated NPU gives for `images`, beside the CPU on the same file.

    `same_class`, `ties` and `other_class` count images of a classifier (None for another task). A tie has another
    class, but the CPU's two largest logits are nearer to each other than `largest_difference`, the largest between a
    logit here and there. `largest_logit` is that of the CPU.
    """

    images: int
    largest_difference: float
    largest_logit: float
    same_class: int | None = None
    ties: int | None = None
    other_class: int | None = None


@dataclass(frozen=True)
class ShippedContext:
    """A context file with what was seen of it."""

    context: Context
    agreement: Agreement

    @property
    def name(self) -> str:
        """In the bundle."""
        return f"contexts/{self.context.chip.name}.onnx"

    def to_json(self) -> dict[str, Any]:
        """What `contexts.json` has of it."""
        context, chip = self.context, self.context.chip
        return {
            "file": self.name,
            "chip": chip.name,
            "product": chip.product,
            "soc_model": chip.soc_model,
            "htp_arch": chip.htp_arch,
            "compiler": context.compiler,
            "contexts": context.contexts,
            "npu_nodes": context.npu_nodes,
            "cpu_operators": dict(context.cpu_operators),
            "emulated": vars(self.agreement),
        }

    @property
    def text(self) -> str:
        """What it holds and what its emulation gives, in one line."""
        return ", ".join([*self._compiled(), *self._seen()])

    @property
    def warnings(self) -> list[str]:
        """What there is to fear of it, each in one sentence."""
        context, chip, lines = self.context, self.context.chip.name, []
        if context.cpu_nodes:
            named = ", ".join(f"{name} {count}" for name, count in context.cpu_operators.items())
            lines.append(f"{chip}: {context.cpu_nodes} operators are left to the CPU ({named}), which is slow")
        if context.contexts > 1:
            lines.append(f"{chip}: the model is cut into {context.contexts} contexts, which is slow")
        if self.agreement.other_class:
            where = f"{self.agreement.other_class} of {self.agreement.images} images"
            lines.append(f"{chip}: the emulated NPU gives another class than the CPU for {where}, and not for a tie")
        return lines

    def _compiled(self) -> Iterator[str]:
        context = self.context
        yield "1 context" if context.contexts == 1 else f"{context.contexts} contexts"
        yield f"{context.cpu_nodes or 'no'} operator{'' if context.cpu_nodes == 1 else 's'} on the CPU"

    def _seen(self) -> Iterator[str]:
        seen, largest = self.agreement, self.agreement.largest_logit
        if seen.same_class is not None:
            ties = f" and {seen.ties} ties" if seen.ties else ""
            yield f"emulated: the CPU's class for {seen.same_class} of {seen.images} images{ties}"
        yield f"outputs of up to {largest:.2g} that differ from the CPU's by at most {seen.largest_difference:.2g}"


def agreement(expected: Floats, computed: Floats, has_classes: bool) -> Agreement:
    """Compare the outputs (n, ...) of an emulated NPU with those of the CPU."""
    off = float(np.abs(computed - expected).max())
    plain = Agreement(len(expected), off, float(np.abs(expected).max()))
    if not has_classes:
        return plain
    same = computed.argmax(1) == expected.argmax(1)
    largest = np.sort(expected, axis=1)
    near = largest[:, -1] - largest[:, -2] < off
    return Agreement(
        plain.images, off, plain.largest_logit, int(same.sum()), int((~same & near).sum()), int((~same & ~near).sum())
    )
