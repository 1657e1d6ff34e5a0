"""Text from outside, for a terminal: names in models, owners of jobs, the output of programs and runtimes.

A terminal obeys control characters: they move the cursor, change what was printed before, or paste into the next
command. Characters for the direction of writing show text in another order than it has.
"""


def printable(text: str) -> str:
    """Return one line: every character that is not visible becomes an escape such as `\\x1b` or `\\n`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def printable_lines(text: str) -> str:
    """Return the text as `printable` does, with its lines and tabs as they are."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
