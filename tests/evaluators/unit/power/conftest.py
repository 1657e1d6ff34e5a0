"""A device of files, with scripted tools and a clock that only tests move."""

import pytest

from vitsearch_agent.base.system import NoStream, Output, System
from vitsearch_agent.conditions.emulation import DeviceTree


class Device:
    """`write` its files, set the outputs of its tools in `outputs`, and advance its clock with `wait`."""

    def __init__(self, root):
        self.root = root
        self.outputs = {}
        self.now_s = 1000.0
        self.wall_ahead_s = 1.7e9
        self.write = DeviceTree(root).write
        self.system = System(
            root=root,
            run=self._run,
            clock=lambda: self.now_s,
            sleep=self.wait,
            wall=lambda: self.now_s + self.wall_ahead_s,
            stream=NoStream,
        )

    def wait(self, seconds):
        self.now_s += seconds

    def _run(self, argv):
        answer = self.outputs.get(" ".join(argv), Output("", f"{argv[0]} cannot be run: No such file or directory"))
        return answer if isinstance(answer, Output) else Output(answer, None)


@pytest.fixture
def device(tmp_path):
    return Device(str(tmp_path / "device"))


@pytest.fixture
def other_device(tmp_path):
    """A device without any files."""
    return Device(str(tmp_path / "other"))
