"""The agent end to end on any Python from 3.6 on, as a script that needs only the standard library.

python portable.py Portable    (PYTHONPATH: the folder that holds vitsearch_agent)
python portable.py Models      real models; needs onnxruntime
"""

# ruff: noqa: PT009, PT027 - pytest is not available where this runs

import hashlib
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from vitsearch_agent import DeviceClient, EmbeddedAgent, MeasurementFailed
from vitsearch_agent.artifacts import model_files, refuse_incompatible
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.base.onnx_writer import Value, model, node
from vitsearch_agent.base.system import THIS_MACHINE, Output, System
from vitsearch_agent.base.tokens import read_tokens
from vitsearch_agent.cli.service import detect, systemd_unit
from vitsearch_agent.cli.service.host import Host, Program
from vitsearch_agent.cli.service.options import DEFAULT
from vitsearch_agent.client.client import RequestOptions
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.errors import UntrustedDevice
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.server import canary_measurement
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS
from vitsearch_agent.wire.protocol import OUTPUTS, SCREEN, BlobRef, JobSpec, RuntimeInfo, job_id

TINY = ONE_PROCESS._replace(id="test-1", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.0)


class Portable(unittest.TestCase):
    def test_golden_hashes(self):
        value = {"b": [1, 1.0, 0.1, -0.0, 1e-07, 1e22], "a": {"\u00e9": None, "x": True}, "": "\n"}
        self.assertEqual(digest(value), "7e2e3972ac322a21e6441f5712590e81f46272565ebf40493f79401781bdcfbe")
        manifest = (BlobRef("model.onnx", "ab" * 32, 1234),)
        options = {"graph_optimization_level": "all"}
        spec = JobSpec("measure", manifest, "onnxruntime", options, SCREEN, 0)
        self.assertEqual(job_id(spec, "device-1"), "e79a2b21de5d5d9829c623a7a0e4deeaa4705b965296ce2bba869600557c4101")

    def test_end_to_end(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "blob")
            content = os.urandom(700000)
            with open(path, "wb") as stream:
                stream.write(content)
            with EmbeddedAgent(os.path.join(folder, "state")) as agent, agent.client("study") as client:
                self.assertEqual(client.upload(path), hashlib.sha256(content).hexdigest())
                measurement = client.measure(path, "noop", {"busy_us": 50}, TINY)
                self.assertEqual(measurement.latency_ms.n, 11)
                self.assertIsNotNone(measurement.peak_memory_mb)
                self.assertEqual(measurement.device_id, client.device().device_id)
                self.assertEqual(client.measure(path, "noop", {"busy_us": 50}, TINY), measurement)
                with self.assertRaises(MeasurementFailed):
                    client.measure(path, "onnxruntime", {}, TINY)
                protocol = TINY._replace(warmup_min_runs=10, throughput_s=0.1, streams=2, soak_s=0.1)
                phased = client.measure(path, "noop", {"busy_us": 50}, protocol)
                self.assertEqual(phased.sustained.n, 11)
                self.assertGreater(phased.throughput_ips, 0)

    def test_the_peaks(self):
        with tempfile.TemporaryDirectory() as state:
            with EmbeddedAgent(state) as agent, agent.client("study") as client:
                peaks = client.peaks("noop")
            self.assertGreater(peaks.copy_gb_per_s.best, 0.01)
            self.assertEqual(peaks.gemm, ())
            self.assertIn("gives no outputs", peaks.reasons["fp32"])

    def test_the_canary(self):
        with tempfile.TemporaryDirectory() as folder:
            context = canary_measurement.CanaryContext(
                os.path.join(folder, "canary"), "device", "e1" * 32, THIS_MACHINE
            )
            self.assertGreater(canary_measurement.measure(["noop"], context, StopSignal()).cpu.p50, 0)

    def test_energy_of_an_emulated_board(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "blob")
            with open(path, "wb") as stream:
                stream.write(b"x" * 1000)
            tree = DeviceTree(os.path.join(folder, "tree"))
            for name, value in (
                ("name", "ina3221"),
                ("in1_label", "VDD_IN"),
                ("in1_input", 5000),
                ("curr1_input", 800),
            ):
                tree.write(f"/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/{name}", value)
            os.mkdir(os.path.join(folder, "state"))
            with open(os.path.join(folder, "state", "config.json"), "w") as stream:
                json.dump({"emulation": {"root": tree.root}, "limits": {"memory_mb": 500}}, stream)
            with EmbeddedAgent(os.path.join(folder, "state")) as agent, agent.client("study") as client:
                measurement = client.measure(path, "noop", {"busy_us": 50}, TINY._replace(power_s=2.5, idle_s=1.0))
                self.assertEqual(client.device().power_meter, "ina3221")
                self.assertEqual(client.device().fingerprint["memory_limit"]["by"], "address space")
                self.assertAlmostEqual(measurement.power.mean_w, 4.0)
                self.assertAlmostEqual(measurement.power.energy_net_mj, 0.0)

    def test_a_killed_agent_repeats_the_job_and_reports_it(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "blob")
            with open(path, "wb") as stream:
                stream.write(b"x")
            killed, events = [], []

            def on_event(event):
                events.append(event.what)
                if event.what == "phase" and not killed:
                    killed.append(agent.pid)
                    os.kill(agent.pid, signal.SIGKILL)
                    agent._process.wait()

            with EmbeddedAgent(os.path.join(folder, "state")) as agent, agent.client("study") as client:
                measurement = client.measure(
                    path, "noop", {"busy_us": 50000}, TINY, request=RequestOptions(on_event=on_event)
                )
            self.assertEqual(measurement.attempts, 2)
            self.assertEqual(events[:4], ["queued", "started", "phase", "interrupted"])
            self.assertEqual(events[-1], "done")
            with open(os.path.join(folder, "state", "audit.jsonl")) as stream:
                self.assertEqual([json.loads(line)["what"] for line in stream], ["upload", "job", "ended"])

    def test_incompatible_model_files_are_refused(self):
        ends = [Value(name, "float32", (1,)) for name in "xy"]
        too_new = model([node("Identity", ["x"], "y")], ends[:1], ends[1:], 99, 7)
        foreign = model([node("Evil", ["x"], "y", domain="com.acme")], ends[:1], ends[1:], 13, 7)
        doctype = b'<!DOCTYPE net [<!ENTITY a "a">]><net version="11"/>'
        old = RuntimeInfo("onnxruntime", True, None, "1.0", (), ("onnx", "tflite", "openvino"), max_opset=15)
        for name, content, message in (
            ("model.onnx", too_new, "opset 99; this onnxruntime .1.0. reads up to 15"),
            ("model.onnx", foreign, "com.acme"),
            ("model.onnx", pickle.dumps([]), "pickle"),
            ("model.tflite", b"\0\0\0\0TFL3", "not a TFLite file"),
            ("model.xml", doctype, "document type"),
        ):
            with tempfile.TemporaryDirectory() as folder:
                files = model_files(os.path.join(folder, name))
                for path in files.values():
                    with open(path, "wb") as stream:
                        stream.write(content)
                kind = {"model.onnx": "onnx", "model.tflite": "tflite", "model.xml": "openvino"}[name]
                with self.assertRaisesRegex(MeasurementFailed, message):
                    refuse_incompatible(kind, files, old)

    def test_it_is_installed_as_a_service(self):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "run", "systemd", "system"))
            ran = []
            system = System(folder, lambda argv: ran.append(argv[0]) or Output("", None))
            program = Program("/usr/bin/python3", __file__, ())
            for _ in range(2):
                manager = detect.find(Host("linux", True, "root", "/root"), program, system)
                for step in manager.install_steps(manager.installed() or DEFAULT):
                    step.do(system)
            self.assertEqual(
                system.read(manager.definition).text, systemd_unit.text(systemd_unit.DEFAULT_SERVICE).strip()
            )
            self.assertIn("systemctl", ran)

    @unittest.skipIf(shutil.which("openssl") is None, "no openssl command on this machine")
    def test_over_tls(self):
        with tempfile.TemporaryDirectory() as state:
            port_file = os.path.join(state, "port.json")
            command = [sys.executable, "-m", "vitsearch_agent", "serve", "--tls", "--exit-with-stdin"]
            command += ["--state", state, "--port-file", port_file]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                while not os.path.exists(port_file) and process.poll() is None:
                    time.sleep(0.02)
                with open(port_file) as stream:
                    where = json.load(stream)
                url = f"https://127.0.0.1:{where['port']}"
                (token,) = read_tokens(os.path.join(state, "token"))
                with DeviceClient(url, token, fingerprint=where["fingerprint"]) as client:
                    self.assertEqual(client.device().queued, 0)
                with DeviceClient(url, token, fingerprint="ab" * 32) as client, self.assertRaises(UntrustedDevice):
                    client.device()
                process.stdin.close()


class Models(unittest.TestCase):
    """Real models with the newest onnxruntime for this Python: 1.10 for 3.6, 1.19 for 3.8."""

    def test_time_outputs_and_peaks(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            image, logits = Value("image", "float32", (2, 5, 1, 1)), Value("logits", "float32", (2, 5))
            with open(path, "wb") as stream:
                stream.write(model([node("Flatten", ["image"], "logits")], [image], [logits], 13, 7))
            images_path, kept = os.path.join(folder, "images.npy"), os.path.join(folder, "kept.npy")
            # Each image's brightest channel is the next one.
            images = [float((row + 1) % 5 == column) for row in range(5) for column in range(5)]
            _write_npy(images_path, "<f4", "(5, 5, 1, 1)", struct.pack("<25f", *images))
            with EmbeddedAgent(os.path.join(folder, "state")) as agent, agent.client("study") as client:
                measurement = client.measure(path, protocol=TINY._replace(batch=2))
                outputs = client.outputs(path, images_path, "argmax_uint8", protocol=OUTPUTS._replace(batch=2))
                client.fetch_outputs(outputs, kept)
                peaks = client.peaks(threads=1)
            self.assertEqual(measurement.latency_ms.n, 11)
            self.assertEqual((outputs.n, outputs.item_shape, outputs.not_finite), (5, (), 0))
            with open(kept, "rb") as stream:
                self.assertEqual(stream.read()[-5:], bytes([1, 2, 3, 4, 0]))
            self.assertLessEqual({"fp32", "fp16", "int8"}, {peak.precision for peak in peaks.gemm} | set(peaks.reasons))
            self.assertGreater(next(peak for peak in peaks.gemm if peak.precision == "fp32").gflops.best, 0.1)

    def test_the_canary(self):
        with tempfile.TemporaryDirectory() as folder:
            context = canary_measurement.CanaryContext(
                os.path.join(folder, "canary"), "device", "e1" * 32, THIS_MACHINE
            )
            self.assertGreater(canary_measurement.measure(["onnxruntime"], context, StopSignal()).cpu.p50, 0)


def _write_npy(path, dtype, shape, content):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with open(path, "wb") as stream:
        stream.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)


if __name__ == "__main__":
    unittest.main()
