"""Combinations of model, runtime and precision that were measured, or published, to be slow, inexact or void.

They stay measurable: a device may differ. `vitsearch check` and `plan` warn of them, each with what was found, on
which machine, with which version, and when. What a study has measured itself takes the place of such a figure:
`front` says what its own files compute and take. Wrong outputs of a runtime that only the device has are answered by
nothing here, because the accuracy of the front is that of a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from vitsearch.core.caveats.precision_times import TimeRatio
from vitsearch.core.plan import Deployment, precision_text
from vitsearch.core.targets import TARGETS, KnownBad


def known() -> Iterator[tuple[str, KnownBad]]:
    """All of them, each with its runtime."""
    for target in TARGETS.values():
        for combination in target.known_bad:
            yield target.name, combination


def concerns(combination: KnownBad, backbone: str, deployment: Deployment) -> bool:
    """Whether a combination of the deployment's runtime is that of a model at a deployment."""
    return (
        _matches(deployment.precision, combination.precisions)
        and _matches(deployment.provider, combination.providers)
        and _matches(backbone, combination.backbones)
        and combination.quantized_ops in (None, deployment.quantized_ops)
    )


def warning(
    backbone: str, deployment: Deployment, computes: bool = False, time_ratios: Sequence[TimeRatio] = ()
) -> str | None:
    """What is known against a model at a deployment, with figures and sources; None when nothing is. What the study
    knows itself answers a figure from elsewhere: whether the shares of what the file `computes` are known, and its
    times in `time_ratios` to those of the same graph in other precisions."""
    target = TARGETS.get(deployment.runtime)
    listed = () if target is None else target.known_bad
    combinations = [combination for combination in listed if concerns(combination, backbone, deployment)]
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
    for runtime, combination in known():
        pairs = [
            (name, deployment)
            for deployment in deployments
            for name in backbones
            if deployment.runtime == runtime and concerns(combination, name, deployment)
        ]
        if pairs:
            names = ", ".join(dict.fromkeys(name for name, _ in pairs))
            precisions = ", ".join(
                dict.fromkeys(precision_text(deployment.precision, deployment.quantized_ops) for _, deployment in pairs)
            )
            lines.append(f"{names} on {runtime} at {precisions}: {combination}")
    return lines


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
