"""What a measuring child must not reach: the agent's token, queue, configuration and other jobs.

A model runs code of large libraries in the child, so a crafted one may run its own. The child gives up its rights
before it imports the runtime (`child.isolation`), with what its kernel has.
"""

from typing import Any, Dict, NamedTuple, Tuple


class Isolation(NamedTuple):
    """`hidden` are files and folders, by their real paths, that a child may neither read nor change.

    Its own folder, and the cache of its runtime, may be below them. `needed` are files that it must be able to read,
    where there is not one in its own folder.
    """

    hidden: Tuple[str, ...]
    needed: Tuple[str, ...] = ()

    def for_child(self, writable: Tuple[str, ...], network: bool) -> Dict[str, Any]:
        """Return the part of the job with which the child isolates itself. `writable`: other folders it may change."""
        return {
            "hidden": list(self.hidden),
            "needed": list(self.needed),
            "writable": list(writable),
            "network": network,
        }
