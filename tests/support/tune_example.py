"""The example of docs/ray_cluster.md on a tiny space: `python -m support.tune_example FOLDER CODE TRIALS`.

Measurements are short. The first trial that reaches its second rung is killed there, once; Tune restores it.
"""

import os
import signal
import sys
from pathlib import Path

import ray
from ray.tune.logger import JsonLoggerCallback

from support.quick_search import QUICK
from vitsearch import tune as our_tune


def quick(kind: type, folder: Path) -> type:
    """Defined in here, so that Ray sends the class itself to its workers: they do not have this module."""
    short = QUICK

    class Quick(kind):
        def setup(self, config):
            from vitsearch.devices import protocols

            protocols.SCREEN = short._replace(id="screen-quick")
            protocols.CONFIRM = short._replace(id="confirm-quick", processes=2, max_processes=2)
            super().setup(config)

        def step(self):
            if self._steps == 1 and not (folder / "killed").exists():
                (folder / "killed").write_text(self.trial_id)
                os.kill(os.getpid(), signal.SIGKILL)
            return super().step()

    return Quick


def main(folder: Path, code: str, trials: str) -> None:
    os.chdir(folder)
    trainable = our_tune.trainable
    our_tune.trainable = lambda space: quick(trainable(space), folder)
    # When a trial starts again, Ray takes its uploaded result.json for the newest, even if it was uploaded empty.
    JsonLoggerCallback._restore_from_remote = lambda *asked: None
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
    sampled = code.replace("num_samples=64", f"num_samples={trials}")
    assert sampled != code
    exec(compile(sampled, "tune_parts.py", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).read_text(), sys.argv[3])
