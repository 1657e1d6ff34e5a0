"""The options of `vitsearch-agent`. A running agent has parsed those of all commands, so this file imports little."""

import argparse

from vitsearch_agent import __version__
from vitsearch_agent.cli.service.options import DEFAULT, STATE
from vitsearch_agent.runtime_facts import DEFAULT_RUNTIME
from vitsearch_agent.wire.protocol import PROTOCOLS


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="vitsearch-agent", description="Measure exported models on this device.")
    top.add_argument("--version", action="version", version=f"vitsearch-agent {__version__}")
    top.add_argument("--verbose", action="store_true", help="log every request")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    serve = commands.add_parser("serve", help="run the agent: accept jobs and measure one at a time")
    serve.add_argument("--state", required=True, help="folder for models, queue and device id")
    serve.add_argument(
        "--references", help="file for the times of the reference models (default: references.json in the state folder)"
    )
    serve.add_argument("--port-file", help="write port and pid to this file as JSON when the agent listens")
    serve.add_argument("--exit-with-stdin", action="store_true", help="exit when stdin is closed, and keep no models")
    setup = commands.add_parser(
        "install",
        argument_default=argparse.SUPPRESS,
        help="install the agent as a service, which starts at boot if installed as root, otherwise at login; "
        "run again to upgrade or change it",
    )
    setup.add_argument("--state", help=f"folder for models, queue and device id (default as root: {STATE})")
    setup.add_argument("--user", help=f"account to run as, created if missing; only as root (default: {DEFAULT.user})")
    removal = commands.add_parser("uninstall", help="remove the service; the measurements are kept")
    removal.add_argument("--purge", action="store_true", help="also remove the state (token, queue) and the account")
    for command in (setup, removal):
        command.add_argument("--dry-run", action="store_true", default=False, help="only show the files and commands")
    for command in (serve, setup):
        _add_listening(command)
    serve.set_defaults(host=DEFAULT.host, port=0)
    token = commands.add_parser("token", help="show the token that clients must send, or make a new one")
    token.add_argument("--state", required=True, help="folder of the agent")
    token.add_argument("--token-file", help="the agent's --token-file, if it has one")
    token.add_argument("--rotate", action="store_true", help="make a new token; a running agent uses it at once")
    token.add_argument("--keep-old", action="store_true", help="the old token stays valid until the next rotation")
    state = commands.add_parser("status", help="show whether the agent runs, and what measured models are kept from")
    state.add_argument("--state", required=True, help="folder of the agent")
    meters = commands.add_parser("power", help="read every power meter of this device, or show why it cannot be read")
    meters.add_argument("--state", help="folder of the agent, for its config.json")
    measure = commands.add_parser("measure", help="measure a file and print the result, or several in a table")
    _add_measure(measure)
    check = commands.add_parser(
        "verify",
        help="verify a bundle: its files, its outputs and its measurements",
        epilog="The exit code is 0 if it passed, 1 if a check failed, 2 if there is no bundle to verify, and 3 if only "
        "checksums were judged because the model cannot run here (0 with --no-measure).",
    )
    add_verify_options(check)
    trial = commands.add_parser(
        "selftest",
        help="try installation, runtimes, precisions, meters, heat, repeatability and a kill here, and write one file",
        epilog="It takes up to ten minutes, needs no network and changes nothing. The exit code is 1 if a step failed.",
    )
    trial.add_argument(
        "--to",
        metavar="FILE",
        default="vitsearch-selftest.json",
        help="the file to write and to send back (default: %(default)s)",
    )
    trial.add_argument("--state", help="folder of an agent, for its config.json")
    for command in (serve, setup, measure):
        command.add_argument("--cpus", help="processors to use, such as 1 or 0,2-3 (default: all)")
    return top


def _add_measure(measure: argparse.ArgumentParser) -> None:
    measure.add_argument(
        "models", nargs="+", metavar="MODEL", help="an ONNX or TFLite file, or the .xml of an OpenVINO pair"
    )
    measure.add_argument("--runtime", default=DEFAULT_RUNTIME, help="runtime to use (default: %(default)s)")
    measure.add_argument(
        "--program", metavar="PATH", help="interpreter or program that runs the model (default: the first one found)"
    )
    measure.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the runtime; repeat for several",
    )
    measure.add_argument(
        "--protocol",
        choices=sorted(PROTOCOLS),
        default="screen",
        help="screen: 2 to 5 processes of 1 s or more; confirm: 5 to 10 of 1.6 s or more (default: %(default)s)",
    )
    measure.add_argument("--threads", type=int, default=1, help="threads of one inference (default: %(default)s)")
    measure.add_argument("--batch", type=int, help="images per inference (default: the model's own, 1 if it is open)")
    measure.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=SIZES",
        help="the shape of an input that has open dimensions other than the batch, such as images=1,3,640,640; repeat "
        "for several",
    )
    measure.add_argument(
        "--throughput",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="also measure throughput for this long, with --streams inferences at a time (default: not measured)",
    )
    measure.add_argument(
        "--streams", type=int, default=1, help="inferences at a time for --throughput (default: %(default)s)"
    )
    measure.add_argument(
        "--soak",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="also measure after this much load (default: not measured)",
    )
    # Two options, because an option with an optional value would take a following file for the meter's name.
    measure.add_argument("--power", action="store_const", const="auto", dest="meter", help="also measure power")
    measure.add_argument("--meter", metavar="NAME", help="also measure power, with this meter")
    measure.add_argument("--json", action="store_true", help="print all fields as JSON (several files: a list)")


def _add_listening(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", help=f"address to listen on (default: {DEFAULT.host})")
    command.add_argument(
        "--port", type=_port, help=f"port to listen on (default of serve: a free one; of install: {DEFAULT.port})"
    )
    command.add_argument("--token-file", help="file with the token that clients must send (default: in --state)")
    command.add_argument("--tls", action="store_true", help="use TLS on loopback too; other addresses always use it")
    command.add_argument(
        "--tls-cert", metavar="PEM", help="certificate (default: a self-signed one, made at the first start)"
    )
    command.add_argument("--tls-key", metavar="PEM", help="key of the certificate")
    command.add_argument(
        "--insecure-plaintext",
        action="store_true",
        help="no TLS: everybody on the network can read token, models and results",
    )


def add_verify_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    command.add_argument("bundle", metavar="BUNDLE", help="a folder or zip of 'vitsearch ship'")
    command.add_argument(
        "--data", metavar="FOLDER", help="labelled images, FOLDER/CLASS/*.jpg (default: the images in the bundle)"
    )
    command.add_argument("--no-measure", action="store_true", help="files and outputs only")
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


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {text}")
    return number
