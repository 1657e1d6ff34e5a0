"""A folder of packages with the `faults` runtime."""

import os
import shutil

from support import AGENT_HOME, SUPPORT


def install_faults(folder, monkeypatch):
    """Install the `faults` runtime through its entry point into a folder; return that of the packages."""
    site = folder / "site"
    (site / "vitsearch_faults-1.dist-info").mkdir(parents=True)
    for name in ("faults_runtime.py", "attacks.py"):
        shutil.copy(os.path.join(SUPPORT, name), str(site / name))
    (site / "vitsearch_faults-1.dist-info" / "METADATA").write_text("Name: vitsearch-faults\nVersion: 1\n")
    (site / "vitsearch_faults-1.dist-info" / "entry_points.txt").write_text(
        "[vitsearch_agent.runtimes]\nfaults = faults_runtime:FaultRuntime\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), AGENT_HOME]))
    return str(site)
