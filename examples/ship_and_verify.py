"""Ship a model of a study as a bundle, verify the bundle, and classify one of its test images with it.

    python examples/ship_and_verify.py from_python [knee]

About a minute, after examples/quickstart.py.
"""

import subprocess
import sys

import vitsearch as vs


def main(study: str, model: str = "knee") -> int:
    wanted = vs.Wanted(int(model) if model.isdigit() else model)
    bundle = vs.open_study(study).ship(wanted)  # the test images are read here for the first time
    print(f"{bundle.folder}, and the same as {bundle.archive}")

    # Whoever gets the bundle runs the same with `vitsearch-agent`, or with the vitsearch-agent.pyz in it.
    verified = subprocess.run([sys.executable, "-m", "vitsearch_agent", "verify", str(bundle.folder)])

    # The example of the bundle needs its requirements.txt and nothing of vitsearch.
    subprocess.run([sys.executable, "example.py", "images/0.png"], cwd=bundle.folder, check=True)
    return verified.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
