"""Words of ours that readers did not understand. None of them comes back."""

import re

FORBIDDEN = re.compile(
    r"\b(foretold|foretell\w*|foreseen|hoped|hopeless|promised (no|more)|in quiet|errands?|enrol\w*|twins?|"
    r"passed over|let go|taught)\b",
    re.IGNORECASE,
)


def forbidden_lines(text):
    """The lines that have one of the words, with their numbers; ``_`` counts as a space."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{number}: {line.strip()[:80]}" for number, line in lines if FORBIDDEN.search(line.replace("_", " "))]
