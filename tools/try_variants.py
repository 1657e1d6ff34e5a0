"""Try one small variant of every architecture of timm: find its structure, cut half of everything, export it.

    PYTHONPATH=search:evaluators python tools/try_variants.py                    all of it, about an hour
    PYTHONPATH=search:evaluators python tools/try_variants.py --update NAME ...  these again, in the same file

Writes benchmarks/variants.json. A variant is the smallest one of its timm module, or the smallest one that has a class
of module which no chosen variant has. Each is built with random weights at the size at which its structure is found,
half of all heads and hidden channels are cut at once and compared with the mask, and the cut model is exported to
onnxruntime and OpenVINO and compared with torch. Every name of timm is built on the meta device and counted by the
classes of its modules.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import torch
import variants_page  # beside this file

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.found_family import FoundFamily, module_of
from vitsearch.backbones.found_structures import PIXELS, find_afresh
from vitsearch.compress import prune
from vitsearch.core.image_size import ImageSize
from vitsearch.core.onnx_exporters import exporter_of
from vitsearch.core.plan import Deployment
from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
from vitsearch.core.targets import TARGETS
from vitsearch.errors import VitsearchError
from vitsearch.export import ExportTask, deploy
from vitsearch.models.surgery import raise_layer_scales
from vitsearch.stages.parts.exporting import write
from vitsearch.structure.levels import levels_of
from vitsearch.structure.proof import draw_vectors
from vitsearch.testing.families.cutting import masked

RESULTS = Path(__file__).parents[1] / "benchmarks" / "variants.json"
RUN_IN = ("onnxruntime", "openvino")
LIMIT_S = 900
HOLDS_NOTHING = re.compile(
    r"(Norm\w*|GELU\w*|Scale\w*|DropPath|Same|Head|Pool\w*|Act|Sigmoid|Tanh|Linear|Embed\w*|Stem\w*|Tlu2d|Conv2d|Net)$"
)
"""Classes of modules that hold no hidden channels, heads or blocks: norms, activations, pools, stems, classifiers."""
CLASSES = 10
LARGEST = 150e6
"""Parameters of a variant that is tried here; larger architectures are named with this reason."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--update", nargs="+", metavar="NAME", default=[], help="try only these variants again")
    wanted = parser.parse_args().update
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not results.get("names"):
        results = {"names": dict(_survey(timm.list_models())), "variants": {}}
        _save(results)
    for name in wanted or [name for name in _chosen(results["names"]) if name not in results["variants"]]:
        results["variants"][name] = outcome = _in_child(name)
        print(name, {key: value for key, value in outcome.items() if key != "refusals"}, flush=True)
        _save(results)
    print(variants_page.tables(results).partition("\n")[0])
    return 0


def _save(results: dict[str, Any]) -> None:
    rows = {
        part: "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(results[part].items())) + "\n}"
        for part in ("variants", "names")
    }
    RESULTS.write_text("{" + ",\n".join(f"{json.dumps(part)}: {text}" for part, text in rows.items()) + "}\n")


def _survey(names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each name with its timm module, parameters in millions and classes of modules, built on the meta device."""
    for name in names:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = timm.create_model(name)
        kinds = {_class(module) for module in model.modules() if type(module).__module__.startswith("timm")}
        size = sum(values.numel() for values in model.parameters()) / 1e6
        entry = {"module": module_of(name), "params_m": round(size, 2), "classes": sorted(kinds)}
        yield name, entry | declared_levels(name)


def declared_levels(name: str) -> dict[str, list[str]]:
    """The levels that a declared family supports for a name; nothing for a found one."""
    if isinstance(backbones.find(name), FoundFamily):
        return {}
    knobs = {"widths": "ffn_pruning_ratio", "heads": "head_pruning_ratio", "blocks": "depth_pruning_ratio"}
    return {"declared": [level for level, knob in knobs.items() if backbones.supports(name, knob, 0.5) is None]}


def _class(module: torch.nn.Module) -> str:
    return type(module).__name__


def _chosen(names: dict[str, dict[str, Any]]) -> list[str]:
    """The smallest name of each module, then the smallest one with a class that may hold what is cut and that no chosen
    name of the module has. Of a declared family, which says itself what it cuts, the smallest one alone."""
    seen: dict[str, set[str]] = collections.defaultdict(set)
    first, further = [], []
    for name, entry in sorted(names.items(), key=lambda item: (item[1]["params_m"], item[0])):
        before = seen[entry["module"]]
        new = {kind for kind in entry["classes"] if kind not in before and not HOLDS_NOTHING.search(kind)}
        if not before:
            first.append(name)
        elif new and "declared" not in entry:
            further.append(name)
        seen[entry["module"]] |= {*entry["classes"], ""}
    return first + further


def _in_child(name: str) -> dict[str, Any]:
    """The outcome of a variant, tried in a process of its own: some crash in native code."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_send, args=(theirs, name))
    child.start()
    theirs.close()
    try:
        if ours.poll(LIMIT_S):
            outcome: dict[str, Any] = ours.recv()
            return outcome
        return {"reason": f"not done after {LIMIT_S} s"}
    except EOFError:
        child.join()
        return {"reason": f"the process ended with exit code {child.exitcode}"}
    finally:
        child.kill()
        child.join()


def _send(connection: Connection, name: str) -> None:
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        try:
            outcome = _try(name)
        except Exception as error:  # noqa: BLE001 - whatever timm, torch or a runtime raises is the outcome
            outcome = {"reason": _in_one_line(error)}
    connection.send(outcome)


def _try(name: str) -> dict[str, Any]:
    family: Any = backbones.find(name)
    refused = family.supports(name, "quantization", "fp32")
    if refused is None and sum(values.numel() for values in family.unbuilt(name).parameters()) > LARGEST:
        refused = f"more than {LARGEST / 1e6:.0f} million parameters: too large to be tried here"
    if refused is not None:
        return {"reason": refused}
    size = next(size for size in _sizes(name) if family.supports(name, "resolution", size) is None)
    spec = ModelSpec(name, "none", size, CLASSES)
    outcome: dict[str, Any] = {"family": family.family, "pixels": size.to_json()}
    if isinstance(family, FoundFamily):
        started = time.process_time()
        find_afresh(family.recipe(name, size), size)
        outcome["find_cpu_s"] = round(time.process_time() - started, 1)
    model = family.build(spec).model
    draw_vectors(model)
    raise_layer_scales(model)
    outcome |= _parts(family, model)
    images = torch.randn(2, 3, *size.sides, generator=torch.Generator().manual_seed(0))
    resolved = _half(family, model, spec)
    with torch.no_grad():
        whole = model(images)
        with masked(model, family, resolved):
            expected = model(images)
    prune.apply(model, family, resolved, images[:1])
    with torch.no_grad():
        largest = float(expected.abs().max())
        outcome["cut_error"] = float((model(images) - expected).abs().max()) / largest
        outcome["mask_change"] = float((whole - expected).abs().max()) / largest
    outcome["parity"] = {runtime: _parity(family, name, model, images, runtime) for runtime in RUN_IN}
    return outcome


def _sizes(name: str) -> list[ImageSize]:
    native = backbones.native_resolution(name)
    smaller, others = range(PIXELS, min(native.sides), 32), range(32, 1025, 4)
    return [ImageSize.square(PIXELS), *map(ImageSize.square, smaller), native, *map(ImageSize.square, others)]


def _parts(family: Any, model: torch.nn.Module) -> dict[str, Any]:
    """What was found, by the class of the module that holds it; of a declared family, what it declares."""
    if isinstance(family, FoundFamily):
        return asdict(levels_of(model, family.structure_of(model)))
    units = family.units(model)
    counts = {
        "widths": sum(unit.fc1 is not None for unit in units),
        "heads": sum(bool(unit.heads) for unit in units),
        "blocks": sum(unit.removable for unit in units),
    }
    return {level: {"declared": count} if count else {} for level, count in counts.items()}


def _half(family: Any, model: torch.nn.Module, spec: ModelSpec) -> ResolvedPlan:
    structure = family.block_structure(model, spec)
    blocks = [
        ResolvedBlock(tuple(range(0, block.heads, 2)), tuple(range(0, block.ffn_width, 2)))
        for block in structure.blocks
    ]
    return ResolvedPlan(spec.backbone, spec.resolution, None, tuple(blocks))


def _parity(family: Any, name: str, model: torch.nn.Module, images: torch.Tensor, runtime: str) -> float | str:
    """The difference of the file to torch, of the largest logit, or why there is none."""
    features = TARGETS[runtime]
    deployment = Deployment(
        "local", runtime, next(iter(features.providers)), "fp32", None if features.open_batch else 1
    )
    try:
        ships = deploy.deployed(model, family, tuple(images.shape))
        with tempfile.TemporaryDirectory() as folder:
            task = ExportTask(family.family, deployment, images.numpy(), exporter=exporter_of(name))
            return float(write(ships, task, Path(folder)).parity)
    except Exception as error:  # noqa: BLE001 - whatever the exporter or the runtime raises is the outcome
        return _in_one_line(error)


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, VitsearchError) and text else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
