"""Combinations of model, runtime and precision that were measured, or published, to be slow, inexact or void.

They stay measurable: a device may differ. `vitsearch check` and `plan` warn of them, each with what was found, on
which machine, with which version, and when. What a study has measured itself takes the place of such a figure:
`front` says what its own files compute and take. Wrong outputs of a runtime that only the device has are answered by
nothing here, because the accuracy of the front is that of a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from vitsearch.core.caveats.precision_times import TimeRatio
from vitsearch.core.plan import Deployment, precision_text
from vitsearch.core.precisions import LINEAR

ANY = ("*",)


@dataclass(frozen=True)
class KnownBad:
    """`backbones` are shell patterns of names, `precisions` and `providers` patterns too; only files that
    quantize `quantized_ops` are concerned, where it is given. `figure` was measured as `source` says: machine or
    publication, version, date. `about` says what it is a figure of: the `arithmetic` of a file, which the
    shares of its MACs answer, its `time`, which one beside that of the precision `against` answers, or its `outputs`,
    which only the device can answer."""

    runtime: str
    precisions: tuple[str, ...]
    reason: str
    figure: str
    source: str
    about: Literal["arithmetic", "time", "outputs"]
    against: str = "fp32"
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

ON_EPYC = "measured on an AMD EPYC with AVX512-VNNI, onnxruntime 1.32.0, 2026-11-26; docs/benchmarks/runtimes.md"

KNOWN: tuple[KnownBad, ...] = (
    KnownBad(
        "onnxruntime",
        ("fp16",),
        "onnxruntime has no fp16 kernels on CPUs, casts to fp32 and back, and only the file is smaller",
        "0.98 to 1.12 times the CPU time of fp32 for the three models of the quickstart",
        ON_EPYC,
        "time",
        providers=CPU,
    ),
    KnownBad(
        "onnxruntime",
        ("int8_weights",),
        "onnxruntime multiplies weights of 8 bits by blocks, and rounds activations to int8 although only the file was "
        "to be small",
        "0.97, 1.9 and 5.8 times the CPU time of fp32 for vit_fmnist_p4, mobilevit_fmnist and efficientvit_fmnist",
        ON_EPYC,
        "time",
        providers=CPU,
    ),
    KnownBad(
        "onnxruntime",
        STATIC_OR_DYNAMIC,
        "int8 in name only, because only linear layers are quantized",
        "1% of the MACs of efficientvit_fmnist are in int8, 3% of efficientvit_b0, less of efficientvit_m0, "
        "efficientformerv2_s0, fastvit_t8, mobilevitv2_050 and repvit_m0_9",
        "counted in files of int8_dynamic for onnxruntime 1.32.0, 2026-11-26",
        "arithmetic",
        backbones=OF_CONVOLUTIONS,
        quantized_ops=LINEAR,
    ),
    KnownBad(
        "openvino",
        ("int8_ptq", "int8_qat"),
        "int8 in name only, because only linear layers are quantized",
        "1% of the MACs of efficientvit_fmnist are in int8, 93% where NNCF quantizes convolutions too",
        "counted in files for openvino 2026.4, 2026-11-26",
        "arithmetic",
        backbones=EFFICIENTVIT_MIT,
        quantized_ops=LINEAR,
    ),
    KnownBad(
        "openvino",
        ("fp16",),
        "a CPU without fp16 kernels computes in bf16 instead, and such a measurement is refused",
        "asked for f16, bf16 was used",
        "measured on a Zen 4 with AVX512-BF16, openvino 2026.4, 2026-11-24",
        "arithmetic",
        providers=CPU,
    ),
    KnownBad(
        "tensorrt",
        ("int8_*",),
        "attention of a ViT is fused in int8 under narrow conditions only, so int8 is often no faster than fp16",
        "FasterViT-0 on a T4: 1.461 against 1.364 ms; ViT-L: 131.8 against 65.6 ms",
        "published: NVIDIA/TensorRT issues 3186 and 4273, NVIDIA/Model-Optimizer issue 167",
        "time",
        "fp16",
        ("vit_*", "deit*"),
    ),
    KnownBad(
        "coreml",
        ("palette4",),
        "a program with 4-bit palettes gave wrong outputs, which the stand-in that is judged cannot show; ask the "
        "device for accuracy_images",
        "cosine with the fp16 outputs 0.63 on the Neural Engine and 0.03 on the CPU, where a file without palettes had "
        "0.9999 (Qwen3-Embedding-0.6B)",
        "published: apple/coremltools issue 2716, comment of 2026-09-23: coremltools 9.0, macOS 26.6.2, Apple M4",
        "outputs",
        providers=("all", "ane", "cpu"),
    ),
    KnownBad(
        "coreml",
        ("int8_weights",),
        "8-bit weights with a scale for each channel gave wrong outputs on GPU and Neural Engine, which the stand-in "
        "that is judged cannot show; ask the device for accuracy_images",
        "one value for all pixels on the GPU and infinity on the Neural Engine (MiDaS, coremltools 7.1), but a cosine "
        "of 0.9992 with the fp16 outputs for Qwen3-Embedding-0.6B (coremltools 9.0)",
        "published: apple/coremltools issues 2114, 2024-01-17, and 2716, comment of 2026-09-23",
        "outputs",
        providers=("all", "ane", "gpu"),
    ),
)


def warning(
    backbone: str, deployment: Deployment, computes: bool = False, time_ratios: Sequence[TimeRatio] = ()
) -> str | None:
    """What is known against a model at a deployment, with figures and sources; None when nothing is. What the study
    knows itself answers a figure from elsewhere: whether the shares of what the file `computes` are known, and its
    times in `time_ratios` to those of the same graph in other precisions."""
    combinations = [combination for combination in KNOWN if combination.concerns(backbone, deployment)]
    return "; ".join(filter(None, (_said(combination, computes, time_ratios) for combination in combinations))) or None


def _said(combination: KnownBad, computes: bool, time_ratios: Sequence[TimeRatio]) -> str | None:
    if combination.about == "outputs":
        return str(combination)
    if combination.about == "arithmetic":
        return None if computes else str(combination)
    own = next((times for times in time_ratios if times.precision == combination.against), None)
    return str(combination) if own is None else f"{combination.reason}; {own}"


def warnings(backbones: Sequence[str], deployments: Iterable[Deployment]) -> list[str]:
    """One line for each known combination that a space has, with the models and precisions that it concerns."""
    deployments, lines = list(deployments), []
    for combination in KNOWN:
        pairs = [
            (name, deployment)
            for deployment in deployments
            for name in backbones
            if combination.concerns(name, deployment)
        ]
        if pairs:
            names = ", ".join(dict.fromkeys(name for name, _ in pairs))
            precisions = ", ".join(
                dict.fromkeys(precision_text(deployment.precision, deployment.quantized_ops) for _, deployment in pairs)
            )
            lines.append(f"{names} on {combination.runtime} at {precisions}: {combination}")
    return lines


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
