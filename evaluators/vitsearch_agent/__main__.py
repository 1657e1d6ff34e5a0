"""Run `vitsearch-agent` as `python -m vitsearch_agent`."""

import sys

from vitsearch_agent.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
