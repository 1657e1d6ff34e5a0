"""Values that no runtime of a space file can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vitsearch.core import precisions
from vitsearch.core.precisions import AUTO, RUNTIMES, quantized_ops_of, supports_batch
from vitsearch.space.checks.parts import SearchedValues


def why_no_runtime(searched: SearchedValues, knob: str, value: Any) -> str | None:
    """Why no plan of the file can have ``value``, whatever its backbone, or None when a runtime of the file has it."""
    judge = _JUDGES.get(knob)
    return None if judge is None or not searched.choices("backend") else judge(searched, value)


def _why_not_made(searched: SearchedValues, precision: str) -> str | None:
    reasons = [precisions.supports(runtime, precision) for runtime in searched.choices("backend")]
    return None if None in reasons else "; ".join(map(str, reasons))


def _why_no_provider(searched: SearchedValues, provider: str) -> str | None:
    reasons = [precisions.supports_provider(runtime, provider) for runtime in searched.choices("backend")]
    return None if None in reasons else "; ".join(map(str, reasons))


def _why_no_backend(searched: SearchedValues, runtime: str) -> str | None:
    """A runtime needs one of the providers and one of the precisions that the file lists."""
    support = RUNTIMES[runtime]
    for kind, knob, has in (
        ("providers", "provider", tuple(support.providers)),
        ("precisions", "quantization", support.precisions),
    ):
        listed = searched.choices(knob)
        if listed and not set(listed) & set(has):
            return f"{runtime} has none of the {kind} of the file ({', '.join(listed)}); it has {', '.join(has)}"
    return None


def _why_no_batch(searched: SearchedValues, batch: str) -> str | None:
    if batch != "open":
        return None
    reasons = [supports_batch(runtime, None) for runtime in searched.choices("backend")]
    return None if None in reasons else "; ".join(map(str, reasons))


def _why_no_ops(searched: SearchedValues, ops: str) -> str | None:
    """The layers need an int8 precision and a runtime of the file that quantize them."""
    runtimes, named = searched.choices("backend"), searched.choices("quantization")
    if ops == AUTO or any(ops in quantized_ops_of(runtime, precision) for runtime in runtimes for precision in named):
        return None
    return f"none of {', '.join(named)} quantizes {ops!r} in {', '.join(runtimes)}"


_JUDGES: Mapping[str, Callable[[SearchedValues, Any], str | None]] = MappingProxyType(
    {
        "quantization": _why_not_made,
        "provider": _why_no_provider,
        "backend": _why_no_backend,
        "batch": _why_no_batch,
        "quantized_ops": _why_no_ops,
    }
)
