"""The options of `vitsearch-agent verify`, apart from its work: a running agent parses them too."""

import argparse


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("bundle", metavar="BUNDLE", help="a folder or zip of 'vitsearch ship'")
    command.add_argument(
        "--data", metavar="FOLDER", help="labelled images, FOLDER/CLASS/*.jpg (default: the images in the bundle)"
    )
    command.add_argument("--no-measure", action="store_true", help="files and accuracy only")
    command.add_argument(
        "--baseline", metavar="OLD", help="also fail where this bundle is worse than OLD, an earlier one"
    )
    command.add_argument(
        "--signers",
        metavar="FILE",
        help="also fail unless one of FILE (OpenSSH's allowed_signers) has signed SHA256SUMS",
    )
    command.add_argument("--junit", metavar="FILE", help="also write the checks as JUnit XML")
    command.add_argument("--json", action="store_true", help="print the checks as JSON")
    command.add_argument(
        "--cpus",
        help="processors to use, such as 1 or 0,2-3 (default: those that measured the shipped figures if this process "
        "may use these and more, else all)",
    )
    command.add_argument(
        "--program", metavar="PATH", help="interpreter or program that runs the model (default: the first one found)"
    )
