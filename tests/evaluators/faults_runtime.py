"""A runtime that misbehaves on request; the `faulty_environment` fixture installs it as a plugin."""

import atexit
import ctypes
import os
import sys
import time

from vitsearch_evaluators.runtimes.base import Availability, Runtime, Session


class FaultSession(Session):
    def __init__(self, options):
        self.options = options

    def run(self):
        gate = self.options["gate"]
        while gate and not os.path.exists(gate):
            time.sleep(0.01)

    def close(self):
        pass


class FaultRuntime(Runtime):
    name = "faults"

    def check_options(self, options):
        return dict({"fault": "none", "gate": "", "note": ""}, **options)

    def available(self):
        return Availability(True, None, "1", ())

    def load(self, path, options, threads, batch):
        if options["note"]:
            note(options["note"], os.getpid())
        getattr(self, options["fault"])(options)
        return FaultSession(options)

    def none(self, options):
        pass

    def crash_at_exit(self, options):
        atexit.register(os.kill, os.getpid(), 11)

    def segfault(self, options):
        print("about to read address 0")
        sys.stdout.flush()
        ctypes.string_at(0)

    def exit_early(self, options):
        os._exit(int(options["note"] == "never"))

    def exit_code(self, options):
        os._exit(7)

    def memory(self, options):
        raise MemoryError

    def error(self, options):
        raise RuntimeError("the runtime has a bug")

    def escape(self, options):
        """Leave a process behind in a session of its own, holding every pipe open."""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                note(options["note"] + ".escaped", os.getpid())
                time.sleep(600)
            os._exit(0)
        while not os.path.exists(options["note"] + ".escaped"):
            time.sleep(0.01)


def note(path, pid):
    with open(path + ".part", "w") as stream:
        stream.write(str(pid))
    os.rename(path + ".part", path)
