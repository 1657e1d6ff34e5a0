"""Print the test files that a change concerns: `python changed.py [REVISION]`, from the root of the repository.

The change is what differs from a revision; without one, what is not committed, or else the last commit. Of a test or
its support that changed, and of a module of ours, the test files are printed that stand in its place in the mirror of
the sources, and those that import it; where there are none, those in the place of the nearest folder above it. Files
that concern no test are left to `make test`, and named on standard error.
"""

import ast
import subprocess
import sys
from pathlib import Path

SOURCES = {"search/vitsearch": "tests/search", "evaluators/vitsearch_agent": "tests/evaluators"}
LEVELS = ("unit", "component", "system")


def changed(revision=None):
    """The files that differ from a revision, with those that git does not know yet."""
    new = git("ls-files", "--others", "--exclude-standard")
    base = revision or ("HEAD" if new or git("diff", "--name-only", "HEAD") else "HEAD~1")
    return [Path(name) for name in [*git("diff", "--name-only", base), *new]]


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


def module_of(path):
    """The name under which a file is imported; None for one that is not."""
    if path.suffix != ".py" or not any(path.is_relative_to(folder) for folder in (*SOURCES, "tests/support")):
        return None
    return ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")


def imports(path):
    """The modules that a file names in its imports, those in functions included, and the names taken from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{name.name}" for name in node.names)
    return names


def mirrored(path):
    """The test files in the place of a module: test_NAME.py or test_NAME_*.py, at each level."""
    named = [f"test_{path.stem}.py", f"test_{path.stem}_*.py"]
    return {test for folder in places(path.parent) for pattern in named for test in folder.glob(pattern)}


def nearest(path):
    """The test files in the place of the nearest folder above a file of ours that has any."""
    tests = ({test for folder in places(parent) for test in folder.glob("test_*.py")} for parent in path.parents)
    return next(filter(None, tests), set())


def places(folder):
    """The folders of tests that mirror one of ours."""
    for source, tests in SOURCES.items():
        if folder.is_relative_to(source):
            yield from (Path(tests, level, folder.relative_to(source)) for level in LEVELS)


def concerned(paths):
    """Divide changed files: the test files that they concern, and those that concern none."""
    tests = sorted(Path("tests").rglob("test_*.py"))
    imported = {test: imports(test) for test in tests}
    chosen, left = set(), []
    for path in paths:
        own = {test for test in tests if test == path or (path.name == "conftest.py" and path.parent in test.parents)}
        own |= {test for test, names in imported.items() if module_of(path) in names} | mirrored(path)
        own = own or nearest(path)
        chosen |= own
        if not own:
            left.append(path)
    return sorted(chosen), left


if __name__ == "__main__":
    files, alone = concerned(changed(*sys.argv[1:]))
    if alone:
        print("no test imports:", *alone, file=sys.stderr)
    print(*files)
