"""What a command shows in a terminal, as plain text."""

import io

from vitsearch.cli.terminal import Terminal


def shown(show, *what, width=115):
    """The output of `show(*what, console)` at this width, without trailing spaces."""
    console = Terminal(file=io.StringIO(), width=width, color_system=None)
    show(*what, console)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
