"""Search on a folder of your own images: ROOT/CLASS/*.jpg, or ROOT/train/CLASS and ROOT/val/CLASS.

    python tools/make_example_folder.py ~/clothes        # if you have none at hand; it has problems to find
    python examples/own_folder.py ~/clothes [KEY=VALUE...]

clothes.yaml beside this script says what is searched. A few minutes on two cores for the 600 images of that folder.
"""

import sys
from pathlib import Path

import vitsearch as vs

SPACE = Path(__file__).with_name("clothes.yaml")


def main(root: str, *overrides: str) -> None:
    try:
        space = vs.load_space(SPACE, "study=own_folder", f"task.data.root={root}", *overrides)
        vs.run(space)
    except vs.errors.VitsearchError as error:  # every problem of the file, the images and the weights, at once
        sys.exit(f"own_folder: {error}")

    study = vs.open_study("own_folder")
    front = study.front()
    for point in front.points:
        print(point.name, point.plan.backbone, {name: point.metrics.value(name) for name in front.objectives})
    print("the file of the knee:", study.show("knee").file)
    for row in study.class_accuracies("knee"):  # an accuracy may hide a class that is never found
        print(f"  {row.name}: {row.correct} of {row.n} found")


if __name__ == "__main__":
    main(*sys.argv[1:])
