"""The forms of everything that ``--json`` prints, as JSON Schemas. ``vitsearch schema COMMAND`` prints one of them.

``docs/json.md`` is made from them: ``python -m vitsearch.cli.json_forms > docs/json.md``. Tests hold what the commands
print against them, and the page against this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vitsearch.errors import UnknownName

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {"type": "object"}


def maybe(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def several(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def by_name(schema: Schema) -> Schema:
    """An object whose keys are names that the schema does not list, such as those of metrics."""
    return {"type": "object", "additionalProperties": schema}


def fields(**named: tuple[Schema, str]) -> Schema:
    """An object with exactly these fields, each with its meaning."""
    properties = {name: {**schema, "description": text} for name, (schema, text) in named.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def and_more(schema: Schema, **named: tuple[Schema, str]) -> Schema:
    """An object with the fields of ``schema`` and more."""
    more = fields(**named)
    return more | {
        "properties": schema["properties"] | more["properties"],
        "required": [*schema["required"], *more["required"]],
    }


PAIR: Schema = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
PLAN: Schema = {
    "type": "object",
    "required": ["backbone", "weights", "resolution", "compression", "distillation", "recipe", "deployments"],
}
METRICS = fields(
    values=(by_name(maybe(NUMBER)), "each metric; null where it was not measured"),
    intervals=(by_name(PAIR), "lower and upper end of the 95 % interval, of metrics that have one"),
    reasons=(by_name(TEXT), "why a metric was not measured"),
    notes=(by_name(TEXT), "what to know before a value is believed"),
)
ON_DEVICE = fields(
    correct=(WHOLE, "images that the device classifies correctly"),
    n=(WHOLE, "images that it was given"),
    interval=(PAIR, "95 % interval of the share"),
    agrees=(maybe(FLAG), "whether chance explains the difference to the accuracy of the worker"),
)
POINT = and_more(
    METRICS,
    trial=(maybe(WHOLE), "number of the trial; null for the baseline"),
    plan=(PLAN, "the configuration of the model, as 'vitsearch plan' reads it"),
    feasible=(FLAG, "whether it is within the limits"),
    breaks=(several(TEXT), "the limits that it breaks, such as accuracy>=0.9"),
    flags=(several(TEXT), "flags that all its measurements have, such as throttled"),
    basis=(maybe(TEXT), "raw: times as they were read; paired: by reference models that ran beside it"),
    shares=(by_name(NUMBER), "share of its MACs in each precision"),
    warnings=(several(TEXT), "what is known against its precision or combination"),
    on_device=(maybe(ON_DEVICE), "its accuracy on the device itself"),
)
FRONT_POINT = and_more(
    POINT,
    on_front=(FLAG, "whether no feasible model dominates it"),
    is_knee=(FLAG, "whether it is the knee"),
    tied=(by_name(several(TEXT)), "objective -> neighbours on the front whose intervals overlap its own"),
)
MISS = fields(
    limit=(TEXT, "the key of the space file"),
    bound=(TEXT, "the bound that follows from it"),
    seen=(NUMBER, "the value of the model"),
    by=(NUMBER, "how far it is off, as a share of the bound"),
    now=(NUMBER, "the value of the key"),
    loosened=(NUMBER, "the value of the key with which the model passes"),
)
NEAR = fields(
    trial=(WHOLE, "number of the trial"),
    plan=(PLAN, "its plan"),
    values=(by_name(maybe(NUMBER)), "its metrics"),
    accuracy_is_predicted=(FLAG, "whether its accuracy is predicted, because it was not trained"),
    misses=(several(MISS), "the limits that it breaks"),
    unjudged=(several(TEXT), "metrics with a limit whose value is not known"),
)
NEAREST = fields(
    models=(several(NEAR), "the nearest models, nearest first"),
    single=(several(NEAR), "for each limit the model that passes with the least loosening of it alone"),
)
KEYS = fields(
    weights_key=(TEXT, "of the training"),
    graph_key=(TEXT, "of the measurements"),
    artifact_key=(maybe(TEXT), "of the exported file"),
    device_id=(TEXT, "the device that measured it"),
)
LIMIT = fields(
    name=(TEXT, "the bound"),
    value=(maybe(NUMBER), "the value of the model"),
    is_met=(maybe(FLAG), "whether it is met; null where the value is not known"),
)
PROXY = fields(
    accuracy=(NUMBER, "of the refitted model without training, on the holdout"),
    kl=(NUMBER, "divergence from the unpruned model, in nats"),
    lost=(NUMBER, "accuracy lost against the unpruned model"),
    predicted_accuracy=(NUMBER, "predicted after the fine-tune"),
    deviation=(NUMBER, "one standard deviation of the prediction"),
)
FILE = fields(
    sha256=(TEXT, "digest; of a model of several files, that of their digests"),
    path=(maybe(TEXT), "the file that the runtime opens; null where it is gone"),
    size_bytes=(WHOLE, "of all its files"),
    artifact_key=(TEXT, "its key in the ledger"),
    parity=(maybe(NUMBER), "largest difference of its logits to torch, over the largest logit"),
    options=(ANYTHING, "options of the runtime that it needs"),
)
STAGE = fields(
    stage=(TEXT, "name of the stage"),
    detail=(TEXT, "rung of a training, protocol of a measurement"),
    made_at=(TEXT, "when its result was written (ISO 8601)"),
    wall_seconds=(maybe(NUMBER), "null where the cost is not known"),
    cpu_seconds=(maybe(NUMBER), "of the worker or the device"),
    ran_on=(maybe(TEXT), "worker HOST/PID or device NAME"),
    versions=(by_name(TEXT), "versions of the libraries"),
)
CLASS = fields(
    name=(TEXT, "the class"),
    n=(WHOLE, "validation images of it"),
    correct=(WHOLE, "of them classified correctly"),
    low=(NUMBER, "lower end of the 95 % interval"),
    high=(NUMBER, "upper end"),
    confused_with=(maybe(TEXT), "the class that most of the others are taken for"),
    confused=(WHOLE, "how many are"),
    accuracy=(NUMBER, "correct / n"),
)
DETAIL = and_more(
    POINT,
    study=(TEXT, "name of the study"),
    emulated=(FLAG, "whether its times are those of an emulated device"),
    place=(TEXT, "where it stands in its study, in words"),
    outcome=(TEXT, "confirmed, infeasible, dominated, not_promoted, ..."),
    duplicate_of=(maybe(WHOLE), "the trial with the same model"),
    reason=(TEXT, "why the trial ended"),
    failure=(maybe(by_name(TEXT)), "stage, kind and message of a failure"),
    knobs=(by_name({"type": ["string", "number", "null"]}), "knob -> value"),
    keys=(maybe(KEYS), "of its results"),
    limits=(several(LIMIT), "each limit, judged by what is known today"),
    rung=(NUMBER, "epochs that it was trained for"),
    proxy=(maybe(PROXY), "its proxy score"),
    file=(maybe(FILE), "the exported model"),
    stages=(several(STAGE), "the stages that made its results"),
    measurements=(several(ANYTHING), "as the agent reports them (evaluators/README.md), with protocol and repeat"),
    classes=(maybe(several(CLASS)), "with --per-class: accuracy of each class"),
)
COMPARED = fields(
    name=(TEXT, "the metric"),
    first=(maybe(NUMBER), "value of the first model"),
    second=(maybe(NUMBER), "value of the second"),
    change=(maybe(NUMBER), "second / first; of accuracies second - first"),
    low=(maybe(NUMBER), "lower end of its 95 % interval"),
    high=(maybe(NUMBER), "upper end"),
    verdict=(
        {"enum": ["first", "second", "not significant", "equal", "no interval", "not measured"]},
        "which model is better, or why that is not known",
    ),
)
PAIRED = fields(
    n=(WHOLE, "images"),
    only_first=(WHOLE, "that the first model alone classifies correctly"),
    only_second=(WHOLE, "that the second alone does"),
    p=(NUMBER, "of McNemar's exact two-sided test"),
)
COMPARISON = fields(
    study=(TEXT, "name of the study"),
    first=(POINT, "the first model"),
    second=(POINT, "the second model"),
    metrics=(several(COMPARED), "metric by metric"),
    knobs=(by_name(several({"type": ["string", "number", "null"]})), "knobs that differ -> both values"),
    images=(maybe(WHOLE), "validation images of both accuracies"),
    paired=(maybe(PAIRED), "with --paired: the answers of both files"),
)
EFFECT = fields(
    knob=(TEXT, "the knob"),
    start=(TEXT, "from this value"),
    to=(TEXT, "to this one"),
    estimate=(NUMBER, "of a cost as a share (-0.1: 10 % less), of the accuracy as a difference"),
    low=(NUMBER, "lower end of the 95 % interval"),
    high=(NUMBER, "upper end"),
    models=(WHOLE, "models with the value 'to'"),
    verdict=({"enum": ["better", "worse", "nothing", "open"]}, "nothing: a gain is certainly small"),
)
BACKBONE_EFFECTS = fields(
    backbone=(TEXT, "the backbone"),
    models=(WHOLE, "its models"),
    r_squared=(maybe(NUMBER), "share of the variance that these effects explain"),
    effects=(several(EFFECT), "empty where there are too few models"),
)
OBJECTIVE_EFFECTS = fields(
    objective=(TEXT, "the metric"),
    measured=(WHOLE, "models with a measured value"),
    predicted=(WHOLE, "models with a predicted accuracy"),
    explained=(maybe(NUMBER), "share of the variance that all knobs explain together"),
    importances=(by_name(NUMBER), "knob -> share of the variance that it explains alone"),
    backbones=(several(BACKBONE_EFFECTS), "backbone by backbone"),
)
PREDICTION = fields(
    trial=(WHOLE, "number of the trial"),
    predicted=(NUMBER, "accuracy predicted without training"),
    deviation=(NUMBER, "one standard deviation"),
    measured=(NUMBER, "accuracy of the exported file"),
    low=(NUMBER, "lower end of its 95 % interval"),
    high=(NUMBER, "upper end"),
    was_trained=(FLAG, "whether it was trained in between"),
    error=(NUMBER, "measured - predicted"),
    holds=(FLAG, "whether the difference is within 95 % of its error"),
)
SPAN = fields(low=(NUMBER, "smallest"), high=(NUMBER, "largest"))
COSTS = fields(
    models=(
        fields(
            counted=(WHOLE, "plans that were counted"),
            params_m=(SPAN, "million parameters"),
            macs_m=(SPAN, "million MACs"),
            size_mb=(SPAN, "MB of the weights"),
        ),
        "the models of the space",
    ),
    unmeetable=(several(TEXT), "limits that no model can meet"),
    time=(
        maybe(
            fields(
                trainings=(WHOLE, "trainings that the file allows"),
                screened=(SPAN, "screening measurements"),
                worker_s=(SPAN, "seconds of one worker"),
                device_s=(SPAN, "seconds of the device"),
                basis=(several(TEXT), "what the estimate is based on"),
            )
        ),
        "null where the file sets a time instead of a number of trainings",
    ),
)
DATA = fields(
    images=(WHOLE, "training and validation images"),
    image_size=(WHOLE, "side in pixels as stored"),
    channels=(WHOLE, "1 or 3"),
    mapped=(FLAG, "on disk instead of in memory"),
    decode_cpu_s=(NUMBER, "to decode them once"),
    sampled=(WHOLE, "images that this was estimated from"),
    bytes=(WHOLE, "of the decoded images"),
)
DEPLOYMENT = fields(
    runtime=(TEXT, "runtime"),
    provider=(TEXT, "provider"),
    precision=(TEXT, "precision"),
    runs=(FLAG, "whether the device runs it"),
    reason=(maybe(TEXT), "why not"),
    runs_in=(maybe(TEXT), "the device's runtime and its version"),
    opset=(maybe(WHOLE), "of its ONNX file"),
)
CHECK = fields(
    study=(TEXT, "name of the study"),
    plans=(WHOLE, "plans in the space"),
    trials=(maybe(WHOLE), "trainings that are wanted"),
    notes=(several(TEXT), "why a run from this machine would end at once"),
    warnings=(several(TEXT), "what makes results hard to judge"),
    data=(DATA, "what the data takes"),
    space=(ANYTHING, "the space file with every default"),
    costs=(maybe(COSTS), "what the search will cost; null with --no-costs"),
)
CHECKED_DEVICE = fields(
    name=(TEXT, "name of the description"),
    source=(TEXT, "where it is from"),
    deployments=(several(DEPLOYMENT), "what runs on the device"),
)
LEADER = and_more(METRICS, plan=(PLAN, "unpruned model"), shares=(by_name(NUMBER), "share of its MACs by precision"))
STATUS = fields(
    study=(TEXT, "name of the study"),
    emulated=(FLAG, "whether its times are those of an emulated device"),
    trained=(WHOLE, "trainings so far"),
    wanted=(maybe(WHOLE), "trainings in all; null where the time is limited"),
    open=(WHOLE, "trials in progress"),
    waits=(maybe(TEXT), "what a run waits for"),
    outcomes=(by_name(WHOLE), "outcome -> trials"),
    failures=(by_name(TEXT), "trial -> reason"),
    objectives=(by_name({"enum": ["maximize", "minimize"]}), "metric -> direction"),
    data=(maybe(ANYTHING), "identity of the data"),
    reference_point=(maybe(by_name(NUMBER)), "of the hypervolume"),
    leaderboard=(several(LEADER), "unpruned models"),
    cpu_seconds=(by_name(NUMBER), "stage -> CPU-seconds"),
    busy_share=(maybe(NUMBER), "share of the cores' time that stages used"),
)
SUMMARY = fields(
    name=(TEXT, "name of the study"),
    trials=(WHOLE, "all trials"),
    models=(WHOLE, "trials with a result"),
    open=(WHOLE, "trials that run or wait"),
    last_run=(maybe(TEXT), "end of the last run (ISO 8601)"),
)
DATABASE = fields(
    database=(TEXT, "the .db file"),
    database_bytes=(WHOLE, "on disk"),
    files_bytes=(WHOLE, "of the folder of its files"),
    studies=(several(SUMMARY), "its studies"),
)
PART = fields(
    name=(TEXT, "a runtime, a package, a meter"),
    works=(FLAG, "whether it is there"),
    detail=(TEXT, "its version, or what is missing"),
    install=(maybe(TEXT), "the command that installs it"),
)
DOCTOR = fields(
    machine=(
        fields(
            python=(TEXT, "version"),
            vitsearch=(TEXT, "version"),
            system=(TEXT, "operating system"),
            cores=(WHOLE, "that this process may use"),
            memory_gb=(maybe(NUMBER), "in all"),
            disk_free_gb=(NUMBER, "on the disk of the current folder"),
            gpu=(maybe(TEXT), "that torch finds"),
            parts=(by_name(several(PART)), "group -> parts"),
        ),
        "this machine",
    ),
    devices=(
        several(
            fields(
                name=(TEXT, "as 'vitsearch devices list' shows it"),
                url=(TEXT, "address"),
                reason=(maybe(TEXT), "why it does not answer"),
                board=(maybe(TEXT), "what it is"),
                parts=(several(PART), "its runtimes, meter and restrictions"),
            )
        ),
        "each known device",
    ),
)
ATTEMPT = fields(
    works=(FLAG, "whether every file works that is not refused"),
    backbone=(TEXT, "the backbone"),
    family=(TEXT, "its family"),
    resolution=(WHOLE, "pixels"),
    params_m=(maybe(NUMBER), "million parameters"),
    macs_m=(maybe(NUMBER), "million MACs"),
    reason=(maybe(TEXT), "why it cannot be built"),
    files=(several(ANYTHING), "each runtime and precision: reason, difference, size_mb, latency_ms, shares"),
)
DEVICE_ROW = {
    "type": "object",
    "properties": {
        "name": TEXT | {"description": "name of the device"},
        "url": TEXT | {"description": "address"},
        "reachable": FLAG | {"description": "whether it answers"},
        "reason": maybe(TEXT) | {"description": "why it does not"},
        "kind": maybe(TEXT) | {"description": "physical or emulated"},
        "board": maybe(TEXT) | {"description": "what it is"},
        "queued": WHOLE | {"description": "jobs that wait (if it answers)"},
        "running": WHOLE | {"description": "jobs that run (if it answers)"},
        "quarantined": maybe(TEXT) | {"description": "why it is in quarantine (if it answers)"},
    },
    "required": ["name", "url", "reachable", "reason", "kind", "board"],
    "additionalProperties": False,
}


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
            "The field device is there with --as only.",
            CHECK | {"properties": CHECK["properties"] | {"device": {**CHECKED_DEVICE, "description": "with --as"}}},
        ),
        JsonForm("status", "The state of a study.", STATUS),
        JsonForm(
            "front",
            "The models that are shown, in the order in which they are shown.",
            fields(
                study=(TEXT, "name of the study"),
                emulated=(FLAG, "whether its times are those of an emulated device"),
                baseline=(maybe(POINT), "the unpruned model that relative limits refer to"),
                points=(several(FRONT_POINT), "the models"),
                nearest=(maybe(NEAREST), "what came nearest, where no model is within the limits"),
            ),
        ),
        JsonForm("show", "One trial in full.", DETAIL),
        JsonForm("compare", "Two models.", COMPARISON),
        JsonForm(
            "explain",
            "What each knob did.",
            fields(
                study=(TEXT, "name of the study"),
                emulated=(FLAG, "whether its times are those of an emulated device"),
                objectives=(several(OBJECTIVE_EFFECTS), "objective by objective"),
                lines=(several(TEXT), "what gains nothing, in plain lines"),
                predictions=(several(PREDICTION), "accuracies that were predicted and measured later"),
            ),
        ),
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


def page() -> str:
    """The text of ``docs/json.md``."""
    lines = [
        "# What `--json` prints",
        "",
        "Every command prints JSON with `--json`, and nothing else on standard output; warnings and messages go to",
        "standard error. `vitsearch schema COMMAND` prints the JSON Schema of a command, for example",
        "`vitsearch schema front`. Names of metrics carry their units; what was not measured is `null` with a reason.",
        "This page is made from these schemas, and tests hold the output of the commands against them.",
        "",
    ]
    for form in FORMS.values():
        lines += [f"## vitsearch {form.command}", "", form.text, ""]
        rows = list(_rows(form.schema, ""))
        if rows:
            lines += ["| field | type | meaning |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def _rows(schema: Schema, before: str) -> Iterator[str]:
    """A row for each field; those of inner objects are written ``points[].trial``, ``models.params_m.low``."""
    if schema.get("type") == "array":
        yield from _rows(schema["items"], f"{before}[]")
        return
    prefix = f"{before}." if before else ""
    for name, inner in schema.get("properties", {}).items():
        yield f"| `{prefix}{name}` | {_type(inner)} | {inner.get('description', '')} |"
        known = inner["anyOf"][0] if "anyOf" in inner else inner
        if known.get("properties") or known.get("type") == "array":
            yield from _rows(known, prefix + name)
        elif isinstance(known.get("additionalProperties"), dict):
            yield from _rows(known["additionalProperties"], f"{prefix}{name}.NAME")


def _type(schema: Schema) -> str:
    if "anyOf" in schema:
        return f"{_type(schema['anyOf'][0])} or null"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    more = schema.get("additionalProperties")
    return f"{_type(more)} by name" if isinstance(more, dict) else kind


if __name__ == "__main__":
    print(page(), end="")
