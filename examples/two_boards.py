"""Two boards of one class share the measurements of a search. Two agents on this machine stand for the boards:

    python examples/two_boards.py [KEY=VALUE...]

Some ten minutes on two cores. With real boards, install the agent on each, pair them with `vitsearch devices add` and
write `devices: {board: [nano-1, nano-2]}` into the space file; nothing else changes. There they measure undisturbed;
here they and the trainings share the cores.
"""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import vitsearch as vs
from vitsearch_agent import EmbeddedAgent

SPACE = Path(__file__).resolve().parents[1] / "spaces" / "quickstart.yaml"


def main(*overrides: str) -> None:
    with ExitStack() as stack:
        # A real board runs `vitsearch-agent` as a service; its address and token are those that it shows.
        agents = {name: stack.enter_context(EmbeddedAgent(f"studies/{name}")) for name in ("nano-1", "nano-2")}
        boards = {}
        for number, (name, agent) in enumerate(agents.items()):
            os.environ[f"VITSEARCH_BOARD_{number}"] = agent.token  # a space file names the variable, never the token
            boards[name] = {"url": agent.url, "token": f"env:VITSEARCH_BOARD_{number}"}
        devices = json.dumps({"board": {"boards": boards}})

        space = vs.load_space(SPACE, "study=two_boards", "search.trials=2", f"devices={devices}", *overrides)
        print(vs.run(space).reason)

    for name in agents:
        audit = Path(f"studies/{name}/audit.jsonl").read_text()  # who asked the board for what, and when it ended
        ended = sum(json.loads(line)["what"] == "ended" for line in audit.splitlines())
        print(f"{name} has measured {ended} times")

    for point in vs.open_study("two_boards").front().points:
        print(point.name, point.plan.backbone, point.metrics.value("accuracy"), point.metrics.value("cpu_ms_p50"))


if __name__ == "__main__":
    main(*sys.argv[1:])
