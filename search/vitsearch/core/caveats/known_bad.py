"""Combinations of model, runtime and precision that were measured, or published, to be slow, inexact or void.

They stay measurable: a device may differ. ``vitsearch check`` and ``plan`` warn of them, ``front`` shows the reason
beside the point. Each entry says what was found, and where.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vitsearch.core.plan import Deployment, precision_text
from vitsearch.core.precisions import LINEAR

ANY = ("*",)


@dataclass(frozen=True)
class KnownBad:
    """``backbones`` are shell patterns of names, ``precisions`` and ``providers`` patterns too; only files that
    quantize ``quantized_ops`` are concerned, where it is given. ``figure`` was measured as ``source`` says."""

    runtime: str
    precisions: tuple[str, ...]
    reason: str
    figure: str
    source: str
    backbones: tuple[str, ...] = ANY
    providers: tuple[str, ...] = ANY
    quantized_ops: str | None = None

    def concerns(self, backbone: str, deployment: Deployment) -> bool:
        return (
            deployment.runtime == self.runtime
            and _matches(deployment.precision, self.precisions)
            and _matches(deployment.provider, self.providers)
            and _matches(backbone, self.backbones)
            and self.quantized_ops in (None, deployment.quantized_ops)
        )

    def __str__(self) -> str:
        return f"{self.reason}: {self.figure} ({self.source})"


CPU = ("cpu",)
STATIC_OR_DYNAMIC = ("int8_dynamic", "int8_ptq", "int8_qat", "int8_mixed")
EFFICIENTVIT_MIT = ("efficientvit_fmnist", "efficientvit_b*", "efficientvit_l*")
OF_CONVOLUTIONS = (
    *EFFICIENTVIT_MIT,
    "efficientvit_m*",
    "efficientformerv2_*",
    "fastvit_t*",
    "mobilevitv2_*",
    "repvit_*",
)

KNOWN: tuple[KnownBad, ...] = (
    KnownBad(
        "onnxruntime",
        ("fp16",),
        "onnxruntime has no fp16 kernels on CPUs, casts to fp32 and back, and only the file is smaller",
        "1.08 to 1.11 times the CPU time of fp32 for DeiT-tiny and a small ViT",
        "benchmarks/README.md, Xeon with AVX512-VNNI, 2026-11-25",
        providers=CPU,
    ),
    KnownBad(
        "onnxruntime",
        ("int8_weights",),
        "onnxruntime multiplies weights of 8 bits by blocks, and rounds activations to int8 although only the file was "
        "to be small",
        "1.18 to 1.45 times the CPU time of fp32 for a small ViT and DeiT-tiny",
        "benchmarks/README.md, Xeon with AVX512-VNNI, 2026-11-25",
        providers=CPU,
    ),
    KnownBad(
        "onnxruntime",
        STATIC_OR_DYNAMIC,
        "int8 in name only, because only linear layers are quantized",
        "1% of the MACs of efficientvit_fmnist are in int8, 3% of efficientvit_b0, less of efficientvit_m0, "
        "efficientformerv2_s0, fastvit_t8, mobilevitv2_050 and repvit_m0_9; CPU times, where measured, are 0.96 "
        "to 1.02 times those of fp32",
        "MACs: export/shares at int8_dynamic, 2026-11-26; times: benchmarks/README.md, 2026-11-25",
        OF_CONVOLUTIONS,
        quantized_ops=LINEAR,
    ),
    KnownBad(
        "openvino",
        ("int8_ptq", "int8_qat"),
        "int8 in name only, because only linear layers are quantized",
        "1% of the MACs of efficientvit_fmnist are in int8, 93% where NNCF quantizes convolutions too",
        "export/shares, openvino 2026.4, 2026-11-26",
        EFFICIENTVIT_MIT,
        quantized_ops=LINEAR,
    ),
    KnownBad(
        "openvino",
        ("fp16",),
        "a CPU without fp16 kernels computes in bf16 instead, and such a measurement is refused",
        "asked for f16, openvino 2026.4 used bf16 on a Zen 4 with AVX512-BF16",
        "measured 2026-11-24",
        providers=CPU,
    ),
    KnownBad(
        "tensorrt",
        ("int8_*",),
        "int8 of a ViT is often no faster than fp16, because attention is fused in int8 under narrow conditions only",
        "FasterViT-0 on a T4: 1.461 against 1.364 ms; ViT-L: 131.8 against 65.6 ms",
        "published: NVIDIA/TensorRT issues 3186 and 4273, NVIDIA/Model-Optimizer issue 167",
        ("vit_*", "deit*"),
    ),
)


def warning(backbone: str, deployment: Deployment) -> str | None:
    """What is known against a model at a deployment, with figures and sources; None when nothing is."""
    return "; ".join(str(known) for known in KNOWN if known.concerns(backbone, deployment)) or None


def warnings(backbones: Sequence[str], deployments: Iterable[Deployment]) -> list[str]:
    """One line for each known combination that a space has, with the models and precisions that it concerns."""
    asked, lines = list(deployments), []
    for known in KNOWN:
        pairs = [(name, one) for one in asked for name in backbones if known.concerns(name, one)]
        if pairs:
            names = ", ".join(dict.fromkeys(name for name, _ in pairs))
            precisions = ", ".join(dict.fromkeys(precision_text(one.precision, one.quantized_ops) for _, one in pairs))
            lines.append(f"{names} on {known.runtime} at {precisions}: {known}")
    return lines


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
