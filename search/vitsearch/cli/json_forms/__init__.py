"""The forms of everything that ``--json`` prints, as JSON Schemas. ``vitsearch schema COMMAND`` prints one of them.

``docs/json.md`` is made from them: ``python -m vitsearch.cli.json_forms > docs/json.md``. Tests hold what the commands
print against them, and the page against this package.

schemas.py   how a schema is written        models.py   models and their effects
states.py    studies, costs, devices        page.py     the page
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitsearch.cli.json_forms.models import (
    BUNDLE,
    COMPARISON,
    DETAIL,
    FRONT_POINT,
    NEAREST,
    OBJECTIVE_EFFECTS,
    PLAN,
    POINT,
    PREDICTION,
    RETARGETED,
    VERIFIED,
)
from vitsearch.cli.json_forms.schemas import ANYTHING, FLAG, TEXT, WHOLE, Schema, fields, maybe, several
from vitsearch.cli.json_forms.states import (
    ATTEMPT,
    CHECK,
    CHECKED_DEVICE,
    COPIED,
    DATABASE,
    DEVICE_ROW,
    DOCTOR,
    STATUS,
    UPGRADED,
)
from vitsearch.errors import UnknownName


@dataclass(frozen=True)
class JsonForm:
    """What a command prints with ``--json``."""

    command: str
    text: str
    schema: Schema


FORMS: Mapping[str, JsonForm] = {
    form.command: form
    for form in (
        JsonForm(
            "run",
            "When the run has ended. Its progress goes to standard error.",
            fields(
                study=(TEXT, "name of the study"),
                reason=(TEXT, "why the run has ended"),
                complete=(FLAG, "whether the search is complete"),
            ),
        ),
        JsonForm(
            "check",
            "The field devices is there with --as only.",
            CHECK
            | {
                "properties": CHECK["properties"] | {"devices": {**several(CHECKED_DEVICE), "description": "with --as"}}
            },
        ),
        JsonForm("status", "The state of a study.", STATUS),
        JsonForm(
            "front",
            "The models that are shown, in the order in which they are shown.",
            fields(
                study=(TEXT, "name of the study"),
                device=(TEXT, "where the models were measured"),
                shown_device=(TEXT, "the same with its host, such as local@HOST"),
                emulated=(FLAG, "whether its times are those of an emulated device"),
                class_warnings=(several(TEXT), "classes that the baseline or the front misses, in words"),
                baseline=(maybe(POINT), "the unpruned model that relative limits refer to"),
                points=(several(FRONT_POINT), "the models"),
                nearest=(maybe(NEAREST), "what came nearest, where no model is within the limits"),
            ),
        ),
        JsonForm("show", "One model in full.", DETAIL),
        JsonForm("compare", "Two models.", COMPARISON),
        JsonForm(
            "explain",
            "What each knob did.",
            fields(
                study=(TEXT, "name of the study"),
                emulated=(FLAG, "whether its times are those of an emulated device"),
                devices=(several(TEXT), "its devices, each with its host"),
                objectives=(several(OBJECTIVE_EFFECTS), "objective by objective"),
                lines=(several(TEXT), "what gains nothing, in plain lines"),
                predictions=(several(PREDICTION), "accuracies that were predicted and measured later"),
                calibration=(several(TEXT), "what the predictions were worth, in plain lines"),
            ),
        ),
        JsonForm("retarget", "The models of a study on another device. Progress goes to standard error.", RETARGETED),
        JsonForm("ship", "The bundle that was written.", BUNDLE),
        JsonForm("verify", "What was checked.", VERIFIED),
        JsonForm("plan", "The plan with everything filled in.", PLAN),
        JsonForm("capabilities --try", "One entry for each backbone.", several(ATTEMPT)),
        JsonForm("doctor", "This machine and each known device.", DOCTOR),
        JsonForm("studies list", "One entry for each database.", several(DATABASE)),
        JsonForm(
            "studies delete",
            "What was deleted.",
            fields(
                deleted=(TEXT, "name of the study"),
                freed_bytes=(WHOLE, "on disk"),
                others=(several(TEXT), "studies that stay in its database, with all results"),
            ),
        ),
        JsonForm(
            "studies clean",
            "What was freed.",
            fields(files=(WHOLE, "files"), bytes=(WHOLE, "on disk"), dry_run=(FLAG, "whether they were only counted")),
        ),
        JsonForm("db upgrade", "The versions of the tables.", UPGRADED),
        JsonForm("db copy", "What was added to the other database.", COPIED),
        JsonForm("install-converter", "The converter.", fields(installed=(TEXT, "its name"))),
        JsonForm("devices list", "One entry for each known device.", several(DEVICE_ROW)),
        JsonForm("devices add", "The device as list shows it.", DEVICE_ROW),
        JsonForm("devices remove", "The device that was removed.", fields(removed=(TEXT, "its name"))),
        JsonForm(
            "devices status",
            "What the agent reports (evaluators/README.md), with the queue.",
            {"type": "object", "required": ["name", "url", "runtimes", "conditions", "queue", "device_id", "kind"]},
        ),
        JsonForm(
            "devices describe",
            "A description that 'check --as FILE' reads.",
            {"type": "object", "required": ["name", "source", "device"]},
        ),
        JsonForm(
            "devices peaks",
            "Peaks for a roofline.",
            {"type": "object", "required": ["name", "gemm", "copy_gb_per_s"]},
        ),
        JsonForm(
            "devices accept",
            "The device that is the same as before.",
            fields(
                study=(TEXT, "name of the study"),
                name=(TEXT, "of the device"),
                before=(maybe(TEXT), "what measured before, in words; null where the study knew the device already"),
                now=(TEXT, "what answers now, in words"),
            ),
        ),
        JsonForm(
            "devices cancel",
            "The job that was cancelled.",
            fields(
                id=(TEXT, "of the job"),
                kind=(TEXT, "what it was to do"),
                state=(TEXT, "its state now"),
                study=(TEXT, "of its owner"),
                trial=(maybe(WHOLE), "of its owner"),
                attempts=(WHOLE, "how often it was started"),
                error=(maybe(ANYTHING), "its failure"),
            ),
        ),
    )
}


def json_form(command: str) -> Schema:
    """The JSON Schema of what a command prints. Raises :class:`~vitsearch.errors.UnknownName` with those that print
    JSON."""
    if command not in FORMS:
        raise UnknownName("command with --json", command, FORMS)
    form = FORMS[command]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"vitsearch {command} --json"}
    return head | {"description": form.text} | form.schema
