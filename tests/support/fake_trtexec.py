"""A fake trtexec: it behaves like trtexec as far as flags and files are known, because trtexec cannot run here.

Next to it lies `tensorrt.json`: {"banner": "v8201"}, with optional settings:
    "sleeps": true          its runs take as long as it reports; otherwise it prints everything at once
    "before_s", "after_s"   the seconds between its lines and the runs
    "most_streams": 1       more streams end with an error
It records each call, and writes engines that only the same version loads. With `--int8 --calib` it also records which
layers could be in int8: the convolutions whose input and output the cache has.
"""

import json
import math
import os
import re
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


HELP = """=== Inference Options ===
  --streams=N                 Instantiate N engines to use concurrently (default = 1)
  --threads                   Enable multithreading to drive engines with independent threads (default = disabled)"""
PERIOD_MS = 3.0


def main():
    with open(os.path.join(HERE, "tensorrt.json")) as stream:
        about = json.load(stream)
    banner = about["banner"]
    new = not banner.startswith("v8") or banner >= "v86"
    flags = dict(word.partition("=")[::2] for word in sys.argv[1:])
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] # trtexec {' '.join(sys.argv[1:])}")
    if "--help" in flags:
        print(HELP.replace("--streams", "--infStreams") if new else HELP)
        return 0
    call = dict(flags)
    try:
        return build(call, banner) if "--onnx" in flags else run(flags, about)
    except Rejected as error:
        print(f"[09/25/2026-10:00:00] [E] {error}\n&&&& FAILED TensorRT.trtexec [TensorRT {banner}]")
        return 1
    finally:
        with open(os.path.join(HERE, "calls.jsonl"), "a") as stream:
            stream.write(json.dumps(call) + "\n")


class Rejected(Exception):
    """The build ends with an error."""


def build(flags, banner):
    with open(flags["--onnx"], "rb") as stream:
        content = stream.read()
    if "--int8" in flags and "--calib" in flags:
        flags["layers_in_int8"] = calibrated(content, flags["--calib"], banner)
    with open(flags["--saveEngine"], "wb") as stream:
        stream.write(banner.encode() + b"\0" + content)
    print(f"[09/25/2026-10:00:00] [I] Engine built in 12.3 sec.\n&&&& PASSED TensorRT.trtexec [TensorRT {banner}]")
    return 0


def calibrated(content, path, banner):
    """The outputs of the layers that may be in int8. A cache of another version or calibrator, or of another graph, is
    rejected: TensorRT then asks for images, and trtexec has none beside a cache."""
    with open(path) as stream:
        header, *lines = stream.read().splitlines()
    if header != f"TRT-{banner[1:].split(']')[0]}-EntropyCalibration2":
        raise Rejected("Calibration table does not match calibrator algorithm type.")
    scales = {}
    for line in lines:
        name, value = re.match(r"(.+): ([0-9a-f]{8})$", line).groups()
        scales[name] = struct.unpack(">f", bytes.fromhex(value))[0]
    nodes, tensors = graph_of(content)
    strangers = sorted(scales.keys() - tensors)
    if strangers or not all(0 < scale < math.inf for scale in scales.values()):
        raise Rejected(f"the cache does not fit the graph: {strangers or scales}")
    return [output for kind, inputs, output in nodes if kind == "Conv" and {inputs[0], output} <= scales.keys()]


def graph_of(content):
    """The nodes of an ONNX file (operator, inputs, first output), and the names of its tensors without the weights."""
    nodes, tensors = [], set()
    for graph in fields(content, 7):
        tensors |= {name.decode() for value in fields(graph, 11) for name in fields(value, 1)}
        for node in fields(graph, 1):
            inputs, outputs, kinds = ([text.decode() for text in fields(node, number)] for number in (1, 2, 4))
            nodes.append((kinds[0], inputs, outputs[0]))
            tensors |= set(outputs)
    return nodes, tensors


def fields(message, wanted):
    """The fields of bytes with a number in a message of protobuf."""
    at, contents = 0, []
    while at < len(message):
        key, at = varint(message, at)
        size, at = varint(message, at) if key & 7 in (0, 2) else ({1: 8, 5: 4}[key & 7], at)
        if key & 7 == 0:
            continue
        if key == wanted << 3 | 2:
            contents.append(message[at : at + size])
        at += size
    return contents


def varint(message, at):
    value, shift = 0, 0
    while True:
        value, shift, at = value | (message[at] & 0x7F) << shift, shift + 7, at + 1
        if message[at - 1] < 0x80:
            return value, at


def run(flags, about):
    banner = about["banner"]
    with open(flags["--loadEngine"], "rb") as stream:
        made_by = stream.read().split(b"\0")[0].decode()
    if made_by != banner:
        print(f"[E] The engine plan file is not compatible with this version, expecting {banner} got {made_by}")
        return 1
    streams = int(flags.get("--infStreams") or flags.get("--streams") or 1)
    if streams > about.get("most_streams", 64):
        print("[E] Unable to create execution context for stream 1.")
        return 1
    print("[09/25/2026-10:00:01] [I] Engine loaded in 0.0125 sec.")
    print("[09/25/2026-10:00:01] [I] Input binding for image with dimensions 1x8 is created.")
    print("[09/25/2026-10:00:01] [I] Starting inference", flush=True)
    time.sleep(about.get("before_s", 0.0))
    begun = time.monotonic()
    warm_ms = float(flags["--warmUp"])
    total_ms = warm_ms + float(flags["--duration"]) * 1e3
    if about.get("sleeps"):
        time.sleep(total_ms / 1e3)
        total_ms = (time.monotonic() - begun) * 1e3
    time.sleep(about.get("after_s", 0.0))
    print(f"[09/25/2026-10:00:04] [I] Warmup completed 66 queries over {warm_ms:g} ms", flush=True)
    if "--exportTimes" in flags:
        export(flags["--exportTimes"], 0.0 if banner < "v85" else warm_ms, warm_ms, total_ms, streams)
    return 0


def export(path, from_ms, warm_ms, total_ms, streams):
    """Write one run every 3 ms for each stream, with longer ones in the warm-up, and six digits as trtexec does."""
    with open(path, "w") as stream:
        stream.write("[\n")
        separator, index, timed = "  ", 0, 0
        while index * PERIOD_MS <= total_ms - PERIOD_MS:
            start = index * PERIOD_MS
            latency = 9.0
            if start + 0.25 >= warm_ms:
                latency, timed = 2.5 + timed % 2 / 100, timed + 1
            index += 1
            if start < from_ms:
                continue
            for _ in range(streams):
                times = {"startH2dMs": start, "startComputeMs": start + 0.25, "endComputeMs": start + 2.25}
                times.update({"endD2hMs": start + 2.5, "computeMs": 2.0, "latencyMs": latency})
                shown = ", ".join(f'"{name}" : {value:g}' for name, value in times.items())
                stream.write(separator + "{ " + shown + " }\n")
                separator = ", "
        stream.write("]\n")


sys.exit(main())
