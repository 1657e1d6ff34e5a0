"""A device's answer as metrics of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitsearch.core.record import Errors, Values

PLAIN = ("throughput_ips", "peak_memory_mb", "load_ms")


def values_of(result: Mapping[str, Any]) -> tuple[Values, Errors]:
    """``result`` is a Measurement's JSON. Errors are the 95 % interval of a median, where there is one."""
    latency, cpu = result["latency_ms"], result["cpu_ms"] or {}
    values: Values = {name: result[name] for name in PLAIN}
    values |= {"latency_ms_p50": latency["p50"], "latency_ms_p95": latency["p95"], "cpu_ms_p50": cpu.get("p50")}
    # Rows of earlier versions have neither key.
    power, sustained = result.get("power") or {}, result.get("sustained") or {}
    values |= {"energy_mj": power.get("energy_mj"), "power_w": power.get("mean_w")}
    values |= {"latency_ms_sustained_p50": sustained.get("p50")}
    errors: Errors = {"latency_ms_p50": (latency["ci95_low"], latency["ci95_high"])}
    if cpu:  # a program that runs the model (trtexec) tells no CPU time
        errors["cpu_ms_p50"] = (cpu["ci95_low"], cpu["ci95_high"])
    return values, errors
