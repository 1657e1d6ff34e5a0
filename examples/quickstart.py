"""The quickstart from Python, with three trainings instead of eight: search, then read the front.

    python examples/quickstart.py [KEY=VALUE...]

Some ten minutes on two cores. The same command resumes, and trains nothing that is there already.
"""

import sys
from pathlib import Path

import vitsearch as vs

SPACE = Path(__file__).resolve().parents[1] / "spaces" / "quickstart.yaml"


def main(*overrides: str) -> None:
    space = vs.load_space(SPACE, "study=from_python", "search.trials=3", *overrides)
    ended = vs.run(space)
    print(ended.reason)  # why the search stopped

    front = vs.open_study("from_python").front()  # at any time later, also from another process
    for point in front.points:  # cheapest first
        print(point.name, point.plan.backbone, point.plan.deployment.precision)
        for name in front.objectives:
            low, high = point.metrics.intervals[name]  # 95 %
            print(f"  {name} {point.metrics.value(name):.4g} ({low:.4g} to {high:.4g})")


if __name__ == "__main__":
    main(*sys.argv[1:])
