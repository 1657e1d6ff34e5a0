"""A check that at least one backbone and one runtime of a space file support each value in it.

The backbones are asked through a function, so that this package depends on no backbone and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from vitsearch.core import precisions
from vitsearch.core.legality import value_text
from vitsearch.core.precisions import AUTO, quantized_ops_of, supports_batch, takes_threads
from vitsearch.core.targets import TARGETS
from vitsearch.errors import NetworkError, UnknownName
from vitsearch.space.checks.valid_parts import SearchedValues
from vitsearch.space.knobs import AnyBackbone
from vitsearch.space.networks import NetworkSection
from vitsearch.space.nodes import Path
from vitsearch.space.problems import Problem
from vitsearch.space.section_base import default_weights
from vitsearch.tasks import Task

NAMED = 3
"""Largest number of backbones that a message names for one reason."""
HINTS = "feature"
"""The distillation that reads features of the teacher beside its outputs."""
Supports = Callable[[str, str, Any], str | None]
"""`supports(backbone, knob, value)` returns None when the backbone supports the value, otherwise the reason why not.

Raises `UnknownName` for a backbone that does not exist, `NetworkError` for a network of the user's that cannot be
searched. Knobs are those of `SearchSpace.choices()` and
`weights`."""
NEEDED = frozenset({"resolution", "distillation", "quantization", "backend", "pruning_scope"})
"""Knobs of which every plan needs a value. Without a value of the others nothing is cut."""


class Unsupported(NamedTuple):
    """`unused` are the values that no plan can have although the rest of the file makes plans; the sampler leaves
    them out."""

    problems: list[Problem]
    unused: list[Problem]


def find_unsupported(searched: SearchedValues, supports: Supports) -> Unsupported:
    """Unknown backbones, and values that no backbone of the file supports."""
    unknown = dict(_unknown(searched, supports))
    problems = [Problem(path, message) for path, (_, message) in unknown.items()]
    missing = {name for name, _ in unknown.values()}
    backbones = [choice.name for _, choice in searched.backbones if choice.name not in missing]
    problems += _weights(searched, missing, supports)
    problems += _teacher(searched, missing, supports)
    unused: list[Problem] = []
    if backbones:
        unusable = list(_unusable_values(searched, backbones, supports))
        unused = [problem for problem in unusable if not _is_missed(searched, problem, unusable)]
        problems += [problem for problem in unusable if problem not in unused]
        problems += _unusable_backbones(searched, backbones, supports, {problem.path for problem in unusable})
    problems += _baseline(searched, missing, supports, {problem.path for problem in [*problems, *unused]})
    return Unsupported(problems, unused)


def unfit_outputs(task: Task, backbones: Sequence[AnyBackbone]) -> Iterator[Problem]:
    """Networks that were examined, and whose outputs have another form than a task reads.

    Args:
        task: It says what models give.
        backbones: Of the space.

    Yields:
        A problem for each of them.
    """
    for index, section in enumerate(backbones):
        facts = section.facts if isinstance(section, NetworkSection) else None
        if facts is not None and facts.gives_map != task.gives_map:
            forms = {True: "a map of logits", False: "logits of the whole image"}
            text = f"{section.name} gives {forms[facts.gives_map]}; task {task.kind} reads {forms[not facts.gives_map]}"
            yield Problem(("space", "backbone", index), text)


def _is_missed(searched: SearchedValues, problem: Problem, unusable: list[Problem]) -> bool:
    """Whether no value is left of a knob of which every plan needs one."""
    knob, gone = str(problem.path[1]), {each.path for each in unusable}
    return knob in NEEDED and all(path in gone for path, _ in searched.values[knob])


def _unknown(searched: SearchedValues, supports: Supports) -> Iterator[tuple[Path, tuple[str, str]]]:
    named: list[tuple[Path, str]] = [((*path,), choice.name) for path, choice in searched.backbones]
    if searched.baseline.backbone and searched.baseline.backbone not in {name for _, name in named}:
        named.append((("baseline", "backbone"), searched.baseline.backbone))
    if searched.teacher is not None:
        named.append((("task", "teacher", "backbone"), searched.teacher.backbone))
    for path, name in named:
        try:
            supports(name, "backbone", name)
        except (NetworkError, UnknownName) as error:
            yield path, (name, str(error))


def _weights(searched: SearchedValues, missing: set[str], supports: Supports) -> Iterator[Problem]:
    uses: list[tuple[Path, str, str]] = [(path, choice.name, choice.weights) for path, choice in searched.backbones]
    if searched.teacher is not None:
        uses.append((("task", "teacher", "weights"), searched.teacher.backbone, searched.teacher.weights))
    for path, name, weights in uses:
        reason = supports(name, "weights", weights) if name not in missing else None
        if reason is not None:
            yield Problem(path, f"weights {weights!r}: {reason}" if path[0] == "space" else f"{weights!r}: {reason}")


def _teacher(searched: SearchedValues, missing: set[str], supports: Supports) -> Iterator[Problem]:
    """A teacher without the features that a method reads; the other methods read its outputs alone."""
    name = searched.teacher.backbone if searched.teacher is not None else ""
    if not name or name in missing or HINTS not in searched.choices("distillation"):
        return
    if reason := supports(name, "distillation", HINTS):
        yield Problem(("task", "teacher", "backbone"), f"distillation {HINTS!r} reads features of it: {reason}")


def _unusable_values(searched: SearchedValues, backbones: list[str], supports: Supports) -> Iterator[Problem]:
    for knob, values in searched.values.items():
        if knob == "width_multiple" or not _is_searched(searched, knob, backbones, supports):
            continue
        for path, value in values:
            if why := why_no_runtime(searched, knob, value):
                yield Problem(path, why)
                continue
            reasons = {name: _reason(searched, supports, name, (knob, value)) for name in backbones}
            if all(reason is not None for reason in reasons.values()):
                yield Problem(path, f"no backbone of the file supports {value_text(value)} ({_grouped(reasons)})")


def _grouped(reasons: dict[str, str | None]) -> str:
    """Format reasons as `a, b: why; c: why`: backbones are grouped by reason, and long groups are shortened."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(str(reason).removeprefix(f"{name} "), []).append(name)
    named = {
        reason: names[:NAMED] + ([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])
        for reason, names in groups.items()
    }
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in named.items())


def _reason(searched: SearchedValues, supports: Supports, name: str, wanted: tuple[str, Any]) -> str | None:
    """Why a backbone does not support a knob's value, or None. A window must divide the maps at one of the resolutions
    at least; the reason is that of the last one."""
    knob, value = wanted
    reason = supports(name, knob, value)
    if reason is not None or knob != "window_size":
        return reason
    fits = [supports(name, f"{knob}@{size}", value) for size in searched.choices("resolution")]
    return None if not fits or None in fits else fits[-1]


def _is_searched(searched: SearchedValues, knob: str, backbones: list[str], supports: Supports) -> bool:
    """Whether the knob matters: method and positions of token pruning do only when a backbone supports some ratio above
    0."""
    if knob not in ("token_pruning_method", "token_pruning_at"):
        return True
    ratios = filter(None, searched.choices("token_pruning_ratio"))
    return any(supports(name, "token_pruning_ratio", ratio) is None for ratio in ratios for name in backbones)


def _unusable_backbones(
    searched: SearchedValues, backbones: list[str], supports: Supports, reported: set[Path]
) -> Iterator[Problem]:
    """Backbones that support no value of a knob, although other backbones do."""
    for knob in ("resolution", "distillation", "quantization", "backend"):
        values = searched.values[knob]
        if any(path in reported for path, _ in values):
            continue
        for path, choice in searched.backbones:
            reasons = [supports(choice.name, knob, value) for _, value in values] if choice.name in backbones else []
            if reasons and all(reason is not None for reason in reasons):
                yield Problem(path, f"{choice.name} supports no {knob} of the file: {reasons[-1]}")


def _baseline(
    searched: SearchedValues, missing: set[str], supports: Supports, reported: set[Path]
) -> Iterator[Problem]:
    """Values that the baseline does not support, except those taken from a knob that is already reported."""
    base, listed = searched.baseline, {choice.name: (path, choice.weights) for path, choice in searched.backbones}
    name = base.backbone or next(iter(listed), "")
    if not name or name in missing:
        return
    path, weights = listed.get(name, ((), default_weights(name)))
    if (base.weights or path not in reported) and (reason := supports(name, "weights", base.weights or weights)):
        yield Problem(("baseline", "weights"), f"{name} does not support {base.weights or weights!r}: {reason}")
    largest = max(((value, path) for path, value in searched.values["resolution"]), default=(None, ()))
    size, path = largest if base.resolution is None else (base.resolution, ())
    if size and path not in reported and (reason := supports(name, "resolution", size)):
        yield Problem(("baseline", "resolution"), f"{name} does not support {size}: {reason}")
    if name not in listed and (reason := supports(name, "quantization", "fp32")):  # it is measured in fp32 too
        yield Problem(("baseline", "backbone"), reason)


def why_no_runtime(searched: SearchedValues, knob: str, value: Any) -> str | None:
    """Why no plan of the file can have `value`, whatever its backbone, or None when a runtime of the file has it."""
    judge = _JUDGES.get(knob)
    return None if judge is None or not searched.choices("backend") else judge(searched, value)


def _why_not_made(searched: SearchedValues, precision: str) -> str | None:
    """A runtime and a provider of the file have to compute in it."""
    reasons = [precisions.supports_on(*pair, precision) for pair in _pairs(searched)]
    reasons = reasons or [precisions.supports(runtime, precision) for runtime in searched.choices("backend")]
    return None if None in reasons else "; ".join(dict.fromkeys(map(str, reasons)))


def _makes_none(searched: SearchedValues) -> bool:
    """Whether no precision of the file can be made, which is a problem of the precisions alone."""
    return all(_why_not_made(searched, precision) for precision in searched.choices("quantization"))


def _pairs(searched: SearchedValues) -> list[tuple[str, str]]:
    """Each runtime of the file with each provider of the file that it has."""
    named = searched.choices("provider")
    return [
        (runtime, provider)
        for runtime in searched.choices("backend")
        for provider in precisions.providers_of(runtime, named)
    ]


def _why_no_provider(searched: SearchedValues, provider: str) -> str | None:
    reasons = [precisions.supports_provider(runtime, provider) for runtime in searched.choices("backend")]
    return None if None in reasons else "; ".join(map(str, reasons))


def _why_no_backend(searched: SearchedValues, runtime: str) -> str | None:
    """A runtime needs one of the providers and one of the precisions that the file lists."""
    support = TARGETS[runtime]
    for kind, knob, has in (
        ("providers", "provider", tuple(support.providers)),
        ("precisions", "quantization", support.precisions),
    ):
        listed = searched.choices(knob)
        follows = knob == "quantization" and _makes_none(searched)
        if listed and not set(listed) & set(has) and not follows:
            return f"{runtime} has none of the {kind} of the file ({', '.join(listed)}); it has {', '.join(has)}"
    return None


def _why_no_batch(searched: SearchedValues, batch: str) -> str | None:
    if batch != "open":
        return None
    reasons = [supports_batch(*pair, None) for pair in _pairs(searched)]
    return None if not reasons or None in reasons else "; ".join(dict.fromkeys(map(str, reasons)))


def _why_no_threads(searched: SearchedValues, threads: int) -> str | None:
    """Several numbers of threads need a provider of the file that takes them."""
    several, pairs = searched.choices("threads"), _pairs(searched)
    if threads == min(several) or any(takes_threads(*pair) for pair in pairs):
        return None
    return f"no provider of the file takes a number of threads ({', '.join(' '.join(pair) for pair in pairs)})"


def _why_no_ops(searched: SearchedValues, ops: str) -> str | None:
    """The layers need an int8 precision and a runtime of the file that quantize them."""
    runtimes, named = searched.choices("backend"), searched.choices("quantization")
    quantized = (quantized_ops_of(*pair, precision) for pair in _pairs(searched) for precision in named)
    if ops == AUTO or _makes_none(searched) or any(ops in layers for layers in quantized):
        return None
    return f"none of {', '.join(named)} quantizes {ops!r} in {', '.join(runtimes)}"


_JUDGES: Mapping[str, Callable[[SearchedValues, Any], str | None]] = MappingProxyType(
    {
        "quantization": _why_not_made,
        "provider": _why_no_provider,
        "backend": _why_no_backend,
        "batch": _why_no_batch,
        "threads": _why_no_threads,
        "quantized_ops": _why_no_ops,
    }
)
