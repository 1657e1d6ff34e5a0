"""The commands `ship` and `verify`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsearch.cli.arguments import AsJson, StudyName, command_text, resumable
from vitsearch.errors import BundleError, DeviceLost
from vitsearch_agent.base.printable import printable

if TYPE_CHECKING:
    from vitsearch.ship.bundled_model import SplitResult
    from vitsearch.ship.ship import Bundle

FIRST_REPEAT, REPEATS = 500_000, 500_000
"""Numbers of measurements that no search uses: a device keeps its results by them, and has to measure again."""


def ship(
    study: StudyName,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="The number of a trial, baseline or knee; or else --pick.", show_default=False
        ),
    ] = None,
    pick: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Ship the best model of the front by a rule: 'min latency_ms_p50 where accuracy >= 0.9'.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model as 'vitsearch retarget' has measured it there, such as nano or local+threads2.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the bundle; default: STUDY-trial-N, or STUDY-trial-N-NAME with --device NAME.",
            show_default=False,
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Evaluate and measure again.")] = False,
    no_images: Annotated[bool, typer.Option("--no-images", help="Put no test images into the bundle.")] = False,
    allow_emulated: Annotated[
        bool, typer.Option("--allow-emulated", help="Ship although an emulated device has measured it.")
    ] = False,
    mlflow: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="Add the bundle to the study's run on an MLflow server or store.", show_default=False
        ),
    ] = None,
    observer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SETTING", help="Add the bundle to an observer that takes it.", show_default=False),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY",
            help="Sign the checksums with a key of OpenSSH; a public one if an agent holds it.",
            show_default=False,
        ),
    ] = None,
    chip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Compile for the NPU of a chip of Qualcomm too, such as sm8650; repeat for several.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one model of a study as a bundle: the model, its preprocessing, examples, measurements and a model card.

    The model is evaluated on the test images, which the search never uses, and confirmed on the device.
    """
    if (model is None) == (pick is None):
        example = command_text("ship", study, "knee")
        raise typer.BadParameter(f"name a model (a trial, baseline or knee): {example}; or choose one by --pick RULE")
    # optuna, sqlalchemy, and ray where something is missing: only for those who ship
    from vitsearch.core.json_value import json_text
    from vitsearch.pipeline.progress import PlainLines
    from vitsearch.search.observers.observe import settings_of
    from vitsearch.ship.choice import Wanted
    from vitsearch.ship.ship import PrintedBundle, ShipOptions
    from vitsearch.ship.ship import ship as write

    observers = settings_of(observer, mlflow=mlflow)
    options = ShipOptions(to, again, not no_images, allow_emulated, observers, sign, tuple(chip or ()))
    with resumable():
        bundle = write(study, Wanted(model, pick, device), options, PlainLines((), sys.stderr))
    typer.echo(json_text(PrintedBundle.of(bundle)) if as_json else summary(bundle))


def summary(bundle: Bundle) -> str:
    """What was shipped, and its quality on images that the search never used."""
    from vitsearch.core.metrics import METRICS  # here: --help needs none of what it reads

    model, test = bundle.model, bundle.model.on_test
    metric = METRICS[model.quality]
    lines = [f"{model.origin}: {model.text}"]
    for result in (model.validation, test):
        if result is not None:
            lines.append(f"{result.split:<10}  {_quality(result, metric.name)}")
    if test is None:
        lines.append("test        the data has no test images: the quality on other images is not known")
    else:
        value, before = test.metrics.value(metric.name), model.validation.metrics.value(metric.name)
        if value is not None and before is not None:
            away = (
                f"{100 * (value - before):+.2f} points" if metric.is_share else f"{value - before:+.4g} {metric.unit}"
            )
            lines.append(f"{'':<10}  {away} from validation; the search never used the test images")
    for shipped in model.contexts:
        lines.append(f"npu         {shipped.context.chip.name}: {shipped.text}")
        lines += [f"{'':<10}  warning: {warning}" for warning in shipped.warnings]
    lines += [f"bundle      {bundle.folder}", f"zip         {bundle.archive}"]
    lines += ["signature   SHA256SUMS.sig, in both"] if bundle.is_signed else []
    return "\n".join(map(printable, lines))


def _quality(result: SplitResult, name: str) -> str:
    """`accuracy 0.9055 (0.8919 to 0.9176) on 2000 images`."""
    value, interval = result.metrics.value(name), result.metrics.intervals.get(name)
    if value is None:
        return f"{name} is not known: {result.metrics.reasons.get(name)}"
    span = "" if interval is None else f" ({interval[0]:.4f} to {interval[1]:.4f})"
    return f"{name} {value:.4f}{span} on {result.n} images"


def verify(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A folder or zip of 'vitsearch ship'.")],
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A device of 'vitsearch devices'; default: this machine.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Labelled images, FOLDER/CLASS/*.jpg; default: the images in the bundle.",
            show_default=False,
        ),
    ] = None,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Files and outputs only.")] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="OLD", help="Also fail where it is worse than OLD, an earlier bundle.", show_default=False
        ),
    ] = None,
    signers: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Also fail unless one of FILE (OpenSSH's allowed_signers) has signed SHA256SUMS.",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Also write the checks as JUnit XML.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle: its files, its outputs and its measurements.

    The exit code is 1 if a check fails, and 3 if only checksums were judged because the model cannot run here (0 with
    --no-measure).
    """
    from vitsearch_agent.cli import verify as agent  # only for those who verify
    from vitsearch_agent.errors import AgentError

    options = argparse.Namespace(
        bundle=bundle,
        data=data,
        no_measure=no_measure,
        baseline=baseline,
        signers=signers,
        junit=junit,
        json=as_json,
        program=None,
        cpus=None,
    )
    try:
        code = agent.run(options) if device is None else _verify_on(device, options)
    except AgentError as error:
        if error.transient:
            raise DeviceLost(f"device {device}: {error}") from error
        raise BundleError(str(error)) from error
    raise typer.Exit(code)


def _verify_on(device: str, options: argparse.Namespace) -> int:
    from vitsearch.devices.connection import connect, known_device  # not for those who verify here
    from vitsearch.space.sections import DeviceSection
    from vitsearch_agent.cli import verify as agent
    from vitsearch_agent.verify.bundle import Bundle as OpenBundle
    from vitsearch_agent.verify.model_runner import DeviceRunner, ModelRunner

    client = connect(device, known_device(device, DeviceSection(), os.environ), "verify")
    repeat = FIRST_REPEAT + int(time.time()) % REPEATS

    def there(opened: OpenBundle) -> ModelRunner:
        return DeviceRunner(opened, client, repeat)

    with client:
        return agent.run_with(options, there)
