"""Behaves as trtexec does, as far as its flags and files are known: it cannot run where these tests run.

Beside it lies `tensorrt.json`: {"banner": "v8201"}. It writes down each call, and engines
that only the same version loads.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    with open(os.path.join(HERE, "tensorrt.json")) as stream:
        banner = json.load(stream)["banner"]
    flags = dict(word.partition("=")[::2] for word in sys.argv[1:])
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] # trtexec {' '.join(sys.argv[1:])}")
    if "--help" in flags:
        return 0
    with open(os.path.join(HERE, "calls.jsonl"), "a") as stream:
        stream.write(json.dumps(flags) + "\n")
    return build(flags, banner) if "--onnx" in flags else run(flags, banner)


def build(flags, banner):
    with open(flags["--onnx"], "rb") as stream:
        content = stream.read()
    with open(flags["--saveEngine"], "wb") as stream:
        stream.write(banner.encode() + b"\0" + content)
    print(f"[09/25/2026-10:00:00] [I] Engine built in 12.3 sec.\n&&&& PASSED TensorRT.trtexec [TensorRT {banner}]")
    return 0


def run(flags, banner):
    with open(flags["--loadEngine"], "rb") as stream:
        made_by = stream.read().split(b"\0")[0].decode()
    if made_by != banner:
        print(f"[E] The engine plan file is not compatible with this version, expecting {banner} got {made_by}")
        return 1
    runs = []
    for index in range(300):
        start = index * 3.0
        times = {"startComputeMs": start + 0.25, "endComputeMs": start + 2.25, "latencyMs": 2.5 + index % 2 / 100}
        runs.append(times)
    with open(flags["--exportTimes"], "w") as stream:
        json.dump(runs, stream)
    print("[09/25/2026-10:00:01] [I] Engine loaded in 0.0125 sec.")
    print("[09/25/2026-10:00:01] [I] Input binding for image with dimensions 1x8 is created.")
    return 0


sys.exit(main())
