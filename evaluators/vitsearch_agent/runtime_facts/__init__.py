"""What is known of each runtime without importing it: one module each, with facts alone.

An idle agent, a client and the command line read these; what runs and checks files is named in them as
"module:attribute", and imported by the processes that need it. A module here declares `RUNTIME`, and with it the
`FORMATS` of the files that it is the first to open. This room lies below all others, because the names of files in a
job are checked by it (`wire.job_spec`).

Runtimes of other packages have no module here: an entry point names their class (`vitsearch_agent.runtimes`).
"""

import importlib
import os
from typing import Dict, List, NamedTuple, Optional, Tuple


class Format(NamedTuple):
    """A kind of model file.

    Attributes:
        kind: Its name in jobs.
        files: The names of its files in a job; a runtime opens the first.
        inspect: "module:function" of what checks a file before a runtime gets it: given its stream, its bytes and the
            paths of all files by name, it returns what the file needs.
        inputs: "module:function" of what reads the inputs that a file declares, given its stream and bytes; None where
            nothing does.
        references: "module:function" of what writes the two reference models of a selftest into a folder; None where
            nothing does.
        mark: What proves the kind, and where it stands in a file; None where nothing does.
        text_marks: The first words of a text file of this kind.
    """

    kind: str
    files: Tuple[str, ...]
    inspect: str
    inputs: Optional[str] = None
    references: Optional[str] = None
    mark: Optional[Tuple[int, bytes]] = None
    text_marks: Tuple[bytes, ...] = ()


class System(NamedTuple):
    """The only system of a runtime: its `sys.platform`, and a sentence for other machines."""

    platform: str
    reason: str


class RuntimeFacts(NamedTuple):
    """A runtime.

    Attributes:
        place: Where it stands in lists; the first is the default.
        runtime: "module:Class" (`vitsearch_agent.runtimes.base.Runtime`).
        libraries: See `Runtime.libraries`.
        tools: See `Runtime.tools`.
        package: What pip installs for it. The agent may be one file on a device, so no extra of it is named.
        system: The only one that it has; None where it has several.
        runs_models: Whether models are for it.
    """

    place: int
    runtime: str
    libraries: Tuple[str, ...] = ()
    tools: Tuple[str, ...] = ()
    package: Optional[str] = None
    system: Optional[System] = None
    runs_models: bool = True


def _modules() -> List[str]:
    """Return the names of the modules here."""
    folder = __path__[0]
    if not os.path.isdir(folder):  # the agent as one file
        import pkgutil

        return sorted(module.name for module in pkgutil.iter_modules(__path__))
    # pkgutil does this too, and what it imports takes 0.4 MB of each child.
    files = [file.partition(".") for file in os.listdir(folder)]
    return sorted({name for name, _, ending in files if ending in ("py", "pyc")} - {"__init__"})


def _declared() -> Tuple[Dict[str, RuntimeFacts], Dict[str, Format]]:
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in _modules()}
    facts = {name: module.RUNTIME for name, module in modules.items()}
    names = sorted(facts, key=lambda name: (facts[name].place, name))
    formats: List[Format] = [each for name in names for each in getattr(modules[name], "FORMATS", ())]
    return {name: facts[name] for name in names}, {each.kind: each for each in formats}


RUNTIMES, FORMATS = _declared()
DEFAULT_RUNTIME = next(iter(RUNTIMES))
"""The runtime of a job that names none."""
