"""The shapes of our own table and their packed form: one line about the table, then one for each shape."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from own_table_plans import Shape

from vitsearch.core.plan import Compression
from vitsearch.core.policy import POLICY
from vitsearch.search.forecast.quality_model import RefittedModel

DEPLOYMENTS = ("onnxruntime fp32", "onnxruntime int8_ptq", "openvino fp32", "openvino bf16", "openvino int8_ptq")


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds with one relative standard deviation; predicted where they are not `measured`."""

    ms: float
    deviation: float
    measured: bool = True


@dataclass(frozen=True)
class Rung:
    """One rung of a training. `holdout`, the accuracy that decides, and `validation` are of different images;
    `cpu_s` is what it took since the rung before; `exported` are accuracies of files on the validation images."""

    epochs: int
    holdout: float
    kl: float
    validation: float
    cpu_s: float
    exported: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """A shape that was built and refitted."""

    key: str
    backbone: str
    resolution: int
    cuts: tuple[Compression, ...]
    base: float
    holdout: float
    kl: float
    validation: float
    macs_m: float
    refit_cpu_s: float
    judge_cpu_s: float
    files: Mapping[str, Mapping[str, Any]]
    times: Mapping[str, Sequence[Sequence[float]]]
    rungs: tuple[Rung, ...] = ()
    crashed: tuple[str, ...] = ()
    built: bool = True

    @property
    def start(self) -> RefittedModel:
        return RefittedModel(self.backbone, self.kl, max(0.0, self.base - self.holdout))

    @property
    def needs_no_training(self) -> bool:
        return self.kl < POLICY.rung_zero.small_kl


def pack(lines: Iterable[Mapping[str, Any]], cuts: Mapping[str, Sequence[Shape]], about: Mapping[str, Any]) -> bytes:
    """One line about the table, then one for each shape; only what searches and reports read."""
    rows = {row["unit"]: row for row in lines}
    packed = []
    for unit, row in rows.items():
        if not unit.startswith("shape:"):
            continue
        key = row["key"]
        files = row["files"] | rows.get(f"late:{key}", {}).get("files", {})
        kept = ("key", "backbone", "resolution", "base", "holdout", "kl", "validation", "macs_m")
        costs = {name: rows[at] for name in DEPLOYMENTS if (at := f"cost:{key}:{name}") in rows}
        packed.append(
            {name: row[name] for name in (*kept, "refit_cpu_s", "judge_cpu_s")}
            | {
                "cuts": [cut.to_json() for _, _, cut in cuts[key]],
                "files": {name: _file(file, row["correct"]) for name, file in files.items()},
                "times": {name: cost["visits"] for name, cost in costs.items() if "visits" in cost},
                "crashed": [name for name, cost in costs.items() if "failed" in cost],
                "rungs": _rungs(key, rows),
            }
        )
    done = {row["key"] for row in packed}
    packed += [
        {
            "key": key,
            "backbone": shapes[0][0],
            "resolution": shapes[0][1],
            "cuts": [cut.to_json() for _, _, cut in shapes],
        }
        for key, shapes in cuts.items()
        if key not in done
    ]
    packed.sort(key=lambda row: row["key"])
    return _compressed([about, *packed])


def joined(table: bytes, lines: Iterable[Mapping[str, Any]]) -> bytes:
    """A packed table with the trainings of these lines of shapes that it has no training of."""
    rows = {row["unit"]: row for row in lines}
    about, *packed = map(json.loads, lzma.decompress(table).splitlines())
    return _compressed([about, *(row | {"rungs": row.get("rungs") or _rungs(row["key"], rows)} for row in packed)])


def _compressed(rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = "\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)


def _rungs(key: str, rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The trainings of a shape to one and to three epochs, where both were made."""
    rungs = [rows[at] for epochs in (1, 3) if (at := f"training:{key}:{epochs}") in rows]
    kept = ("holdout", "kl", "validation", "cpu_s", "exported")
    return [
        {"epochs": rung["rung"]} | {name: rung[name] for name in kept if name in rung}
        for rung in rungs
        if len(rungs) == 2
    ]


def _file(file: Mapping[str, Any], correct: int) -> dict[str, Any]:
    if "failed" in file:
        return {"failed": file["failed"]}
    lost = {name: correct - correct_here for name, correct_here in file["correct"].items()}
    return {"bytes": file["bytes"], "export_cpu_s": file["export_cpu_s"], "lost": lost}


def built_of(row: Mapping[str, Any]) -> Built:
    changed = {
        "cuts": tuple(Compression.from_json(cut) for cut in row["cuts"]),
        "crashed": tuple(row["crashed"]),
        "rungs": tuple(Rung(**rung) for rung in row["rungs"]),
    }
    return Built(**{**row, **changed})


def unbuilt_of(row: Mapping[str, Any], base: float) -> Built:
    cuts = tuple(Compression.from_json(cut) for cut in row["cuts"])
    nothing: Any = {"files": {}, "times": {}, "built": False}
    numbers: Any = dict.fromkeys(("holdout", "kl", "validation", "macs_m", "refit_cpu_s", "judge_cpu_s"), 0.0)
    return Built(row["key"], row["backbone"], row["resolution"], cuts, base, **numbers, **nothing)
