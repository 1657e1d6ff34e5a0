"""A runtime that misbehaves on request; the `faulty_environment` fixture installs it as a plugin."""

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from vitsearch_agent.base import inherited
from vitsearch_agent.base.atomic_files import write_bytes
from vitsearch_agent.runtimes.base import Availability, Runtime, Session


def _version():
    """That of the installed files when the module is imported, as of a library."""
    path = os.path.join(os.path.dirname(__file__), "version")
    if not os.path.exists(path):
        return "1"
    with open(path) as stream:
        return stream.read()


VERSION = _version()


class FaultSession(Session):
    def __init__(self, options):
        self.options = options

    def run(self):
        gate = self.options["gate"]
        while gate and not os.path.exists(gate):
            time.sleep(0.01)
        if self.options["fault"] == "steady":
            sum(range(20_000))

    def close(self):
        pass


class FaultRuntime(Runtime):
    name = "faults"

    def check_options(self, options):
        return dict({"fault": "none", "gate": "", "note": ""}, **options)

    def survives_fork(self, options):
        return True

    def available(self):
        if os.path.exists(os.path.join(os.path.dirname(__file__), "hungry")):
            self.hungry({})
        return Availability(True, None, VERSION, (), ("any",))

    def load(self, path, options, threads, batch, shapes):
        if options["note"]:
            note(options["note"], os.getpid())
        getattr(self, options["fault"])(options)
        return FaultSession(options)

    def none(self, options):
        pass

    def steady(self, options):
        """Each run computes the same. Fail with what this process has inherited, unless `gate` is just that."""
        seen = repr(inherited.read()[:-1])
        if options["gate"] != seen:
            raise RuntimeError(f"inherited: {seen}")
        options["gate"] = ""

    def crash_at_exit(self, options):
        atexit.register(os.kill, os.getpid(), 11)

    def segfault(self, options):
        print("about to read address 0")
        sys.stdout.flush()
        ctypes.string_at(0)

    def segfault_once(self, options):
        if not os.path.exists(options["note"] + ".first"):
            note(options["note"] + ".first", os.getpid())
            self.segfault(options)

    def chatty(self, options):
        """Print more than the limit of the log until a write fails, and continue."""
        try:
            for _ in range(64):
                os.write(1, b"x" * (1 << 20))
        except OSError:
            return
        raise RuntimeError("no limit was enforced")

    def abort(self, options):
        os.abort()

    def hungry(self, options):
        """Allocate memory until a limit ends it."""
        kept = []
        for _ in range(100):
            kept.append(b"\1" * (16 << 20))
        raise RuntimeError("no limit was enforced")

    def garbage(self, options):
        """Write an invalid answer and exit with code 0."""
        content = {
            "text": "not json",
            "nan": '{"report": {"wall_ms": [NaN]}}',
            "huge": '{"report": "' + "x" * (2 << 20) + '"}',
            "other": '{"report": {"wall_ms": [1.0]}}',
            "empty": "",
        }[options["note"]]
        with open("job.json") as stream:
            answer = json.load(stream)["answer"]
        with open(answer, "w") as stream:
            stream.write(content)
        os._exit(0)

    def second_waits(self, options):
        """Let the first process pass; every later one waits for the gate."""
        if os.path.exists(options["note"] + ".first"):
            note(options["note"] + ".second", os.getpid())
        else:
            note(options["note"] + ".first", os.getpid())
            options["gate"] = ""

    def own_gate(self, options):
        """Let each process wait for a gate of its own, with its pid at the end of the name."""
        options["gate"] += "." + str(os.getpid())

    def endless(self, options):
        self.escape(options)
        while True:
            time.sleep(1.0)

    def exit_early(self, options):
        os._exit(int(options["note"] == "never"))

    def exit_code(self, options):
        os._exit(7)

    def memory(self, options):
        raise MemoryError

    def error(self, options):
        raise RuntimeError("the runtime has a bug")

    def reach(self, options):
        """Try what `gate`, a JSON object {name: [kind of access, path or port]}, lists; report what worked."""
        wanted = json.loads(options["gate"])
        raise RuntimeError("reached: " + " ".join(name for name, (kind, what) in wanted.items() if _works(kind, what)))

    def reach_when_forked(self, options):
        """Do so in a forked process; a started one passes."""
        if os.path.basename(sys.argv[0]) == "parent.py":
            self.reach(options)
        options["gate"] = ""

    def attack(self, options):
        """In a forked process try the attacks that `gate`, a JSON object, names; report what worked. Others pass."""
        if os.path.basename(sys.argv[0]) == "parent.py":
            from attacks import ATTACKS, Target, victims

            wanted = json.loads(options["gate"])
            target = Target(victims(wanted["agent"]), wanted["state"], wanted["token"])
            reached = [name for name in wanted["attacks"] if ATTACKS[name](target)]
            raise RuntimeError("reached: " + " ".join(reached))
        options["gate"] = ""

    def plant(self, options):
        """Put what `gate` lists, a JSON object {name: path that it links to, or None for a FIFO}, in the place of files
        of the job, and end."""
        for name, target in json.loads(options["gate"]).items():
            if os.path.lexists(name):
                os.remove(name)
            os.mkfifo(name) if target is None else os.symlink(target, name)
        os._exit(0)

    def cached(self, options):
        """Say what is in the cache, and leave something there."""
        kept = os.listdir(self.context.cache)
        write_bytes(os.path.join(self.context.cache, "engine"), b"engine")
        raise RuntimeError("the cache holds " + (" and ".join(kept) or "nothing"))

    def claim(self, options):
        """Report what `gate`, a JSON object of fields, says in the place of what was measured."""
        from vitsearch_agent.measure.child import phase_reports

        claims = json.loads(options["gate"])
        options["gate"] = ""
        for kind in (phase_reports.ProcessReport, phase_reports.ThroughputReport, phase_reports.PowerReport):
            kind.to_json = lambda report: {
                **report._asdict(),
                **{key: claims[key] for key in claims if key in report._fields},
            }

    def hurry(self, options):
        """Write an answer like that of a sound process at once, and end."""
        from vitsearch_agent.measure.child.phase_reports import ProcessReport

        times = (0.1,) * 24
        report = ProcessReport(times, times, 1.0, 1.0, 1.0, 99.0, None, 0.0, 0.0, 0, True, VERSION, {}, {}, 1, None)
        with open("job.json") as stream:
            answer = json.load(stream)["answer"]
        write_bytes(answer, json.dumps({"report": report.to_json()}).encode())
        os._exit(0)

    def hide(self, options):
        """Use 400 MB for a second, and let the kernel forget it; report what is there afterwards."""
        options["gate"] = ""
        used = bytearray(400 << 20)
        used[::4096] = b"x" * len(used[::4096])
        time.sleep(1.0)
        del used
        with open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")

    def forge(self, options):
        """Leave answers for the processes that follow, as an earlier attempt would have."""
        options["gate"] = ""
        with open("job.json") as stream:
            name = json.load(stream)["answer"]
        for index in range(1, 10):
            with open(name.replace("-0.json", f"-{index}.json"), "w") as stream:
                json.dump({"report": {}}, stream)
            with open(name.replace("-0.json", f"-{index}-observation.json"), "w") as stream:
                json.dump({}, stream)

    def append(self, options):
        """Write more into each file of the job."""
        for name in os.listdir():
            if os.path.isfile(name):
                os.chmod(name, 0o644)
                with open(name, "ab") as stream:
                    stream.write(b"more")
                os.chmod(name, 0)

    def deep(self, options):
        """Make more folders in one another than Python's stack has room for, in both places that a model has."""
        own = os.getcwd()
        for place in (tempfile.gettempdir(), own):
            os.chdir(place)
            for _ in range(1100):
                os.mkdir("x")
                os.chdir("x")
        os.chdir(own)

    def escape(self, options):
        """Leave a process behind in its own session that holds every pipe open."""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                note(options["note"] + ".escaped", os.getpid())
                time.sleep(600)
            os._exit(0)
        while not os.path.exists(options["note"] + ".escaped"):
            time.sleep(0.01)


def _works(kind, what):
    try:
        if kind == "connect":
            socket.create_connection(("127.0.0.1", what), 10).close()
        elif kind == "send":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"secret", ("127.0.0.1", what))
        elif kind == "temporary":
            tempfile.TemporaryFile().close()
        elif kind == "list":
            os.listdir(what)
        elif kind == "kill":
            os.kill(what, 0)
        elif kind == "run":
            subprocess.run([sys.executable, "-c", "pass"], check=True)
        else:
            with open(what, kind + "b") as stream:
                stream.read() if kind == "r" else None
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def note(path, pid):
    write_bytes(path, str(pid).encode())
