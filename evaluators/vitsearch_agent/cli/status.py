"""`vitsearch-agent status`: what protects the agent on this device from the models that it measures."""

import argparse
import os

from vitsearch_agent.base import locks
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.server import restrictions


def run(arguments: argparse.Namespace) -> int:
    """Print whether the agent runs, and which restrictions it found at its last start; return the exit code."""
    state = arguments.state
    if not os.path.isdir(state):
        raise InvalidRequest(f"--state {state} is not the folder of an agent")
    if not os.access(state, os.R_OK | os.X_OK):
        raise InvalidRequest(f"--state {state} cannot be read: run this as root or as the agent's user")
    is_running = locks.holder(os.path.join(state, locks.STATE)) is not None
    recorded = restrictions.kept(state)
    print(f"agent    {'runs' if is_running else 'does not run'}")
    if recorded is None:
        print("measuring children: not known, because no agent has started here yet")
        return 1
    print("What a measured model is kept from, as found at the agent's last start:")
    for restriction in recorded:
        print(f"  {restrictions.text(restriction)}")
    return 0 if is_running else 1
