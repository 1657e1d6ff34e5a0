"""Values that no runtime of a space file can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from vitsearch.core import precisions
from vitsearch.core.precisions import AUTO, RUNTIMES, quantized_ops_of, supports_batch
from vitsearch.space.checks.parts import Asked


def why_no_runtime(asked: Asked, knob: str, value: Any) -> str | None:
    """Why no plan of the file can have ``value``, whatever its backbone, or None when a runtime of the file has it."""
    judge = _JUDGES.get(knob)
    return None if judge is None or not asked.choices("backend") else judge(asked, value)


def _why_not_made(asked: Asked, precision: str) -> str | None:
    reasons = [precisions.supports(runtime, precision) for runtime in asked.choices("backend")]
    return None if None in reasons else "; ".join(map(str, reasons))


def _why_no_provider(asked: Asked, provider: str) -> str | None:
    reasons = [precisions.supports_provider(runtime, provider) for runtime in asked.choices("backend")]
    return None if None in reasons else "; ".join(map(str, reasons))


def _why_no_backend(asked: Asked, runtime: str) -> str | None:
    """A runtime needs one of the providers and one of the precisions that the file lists."""
    found = RUNTIMES[runtime]
    for kind, knob, has in (
        ("providers", "provider", tuple(found.providers)),
        ("precisions", "quantization", found.precisions),
    ):
        listed = asked.choices(knob)
        if listed and not set(listed) & set(has):
            return f"{runtime} has none of the {kind} of the file ({', '.join(listed)}); it has {', '.join(has)}"
    return None


def _why_no_batch(asked: Asked, batch: str) -> str | None:
    if batch != "open":
        return None
    reasons = [supports_batch(runtime, None) for runtime in asked.choices("backend")]
    return None if None in reasons else "; ".join(map(str, reasons))


def _why_no_ops(asked: Asked, ops: str) -> str | None:
    """The layers need an int8 precision and a runtime of the file that quantize them."""
    runtimes, named = asked.choices("backend"), asked.choices("quantization")
    if ops == AUTO or any(ops in quantized_ops_of(runtime, one) for runtime in runtimes for one in named):
        return None
    return f"none of {', '.join(named)} quantizes {ops!r} in {', '.join(runtimes)}"


_JUDGES: Mapping[str, Callable[[Asked, Any], str | None]] = MappingProxyType(
    {
        "quantization": _why_not_made,
        "provider": _why_no_provider,
        "backend": _why_no_backend,
        "batch": _why_no_batch,
        "quantized_ops": _why_no_ops,
    }
)
