"""The forms of everything else: costs, the state of a study, studies on disk, machines and devices."""

from __future__ import annotations

from vitsearch.cli.json_forms.models import METRICS, PLAN
from vitsearch.cli.json_forms.schemas import (
    ANYTHING,
    FLAG,
    NUMBER,
    TEXT,
    WHOLE,
    and_more,
    by_name,
    fields,
    maybe,
    several,
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
                trainers=(WHOLE, "the number that a run on this machine has"),
                trainers_s=(SPAN, "seconds of all trainers together"),
                device_s=(SPAN, "seconds of the device"),
                wall_s=(SPAN, "seconds of the whole run with these trainers"),
                basis=(several(TEXT), "what the estimate is based on"),
            )
        ),
        "null where the file sets a time instead of a number of trainings",
    ),
)
SPLIT = fields(
    images=(WHOLE, "in all"),
    source=(TEXT, "where they are from"),
    share=(maybe(NUMBER), "of the images that they were drawn from; null where they were not drawn"),
    seed=(maybe(WHOLE), "of that draw"),
)
CLASS_COUNTS = fields(
    name=(TEXT, "the class"),
    train=(WHOLE, "training images, those of the holdout among them"),
    holdout=(WHOLE, "those of them that judge models in the search and train none"),
    validation=(WHOLE, "validation images"),
    test=(maybe(WHOLE), "test images; null where there are none"),
)
SPLITS = fields(
    train=(SPLIT, "training images, those of the holdout among them"),
    holdout=(SPLIT, "those of them that judge models in the search and train none"),
    validation=(SPLIT, "validation images"),
    test=(maybe(SPLIT), "test images, which the search never uses; null where there are none"),
)
DATA = fields(
    images=(WHOLE, "training and validation images"),
    image_size=(WHOLE, "side in pixels as stored"),
    channels=(WHOLE, "1 or 3"),
    mapped=(FLAG, "on disk instead of in memory"),
    decode_cpu_s=(NUMBER, "to decode them once"),
    sampled=(WHOLE, "images that this was estimated from"),
    bytes=(WHOLE, "of the decoded images"),
    classes=(
        maybe(several(CLASS_COUNTS)),
        "in the order of their labels; null where there were too many images to count",
    ),
    splits=(maybe(SPLITS), "how many images each split has, and how it came about; null as classes are"),
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
TOKEN_USE = fields(
    device=(TEXT, "name of the device or board"),
    address=(TEXT, "host and port that get the token"),
    variable=(maybe(TEXT), "the environment variable that holds it; null for a token of 'vitsearch devices add'"),
    private=(FLAG, "false where it goes unencrypted to another machine"),
)
CONNECTION = fields(
    what=(TEXT, "what a run needs: storage, files, study, a device or board, weights of the hub"),
    where=(TEXT, "its address or name"),
    found=(maybe(TEXT), "what it answered; null where it failed"),
    problem=(maybe(TEXT), "why a run would not start; null where it works"),
)
CHECK = fields(
    study=(TEXT, "name of the study"),
    plans=(WHOLE, "plans in the space"),
    trials=(maybe(WHOLE), "trainings that are wanted"),
    notes=(several(TEXT), "why a run from this machine would end at once"),
    warnings=(several(TEXT), "what makes results hard to judge"),
    data=(DATA, "what the data takes"),
    inputs=(by_name(TEXT), "how each backbone reads images, in the keys of a space file"),
    weights=(by_name(TEXT), "what files of weights do on some images, or that they are trained first"),
    tokens=(several(TOKEN_USE), "the addresses that a run gives a token"),
    space=(ANYTHING, "the space file with every default"),
    connections=(maybe(several(CONNECTION)), "what was tried; null without --connect"),
    costs=(maybe(COSTS), "what the search will cost; null with --no-costs"),
)
CHECKED_DEVICE = fields(
    name=(TEXT, "name of the description"),
    source=(TEXT, "where it is from"),
    deployments=(several(DEPLOYMENT), "what runs on the device"),
)
DISK = fields(
    database_bytes=(maybe(WHOLE), "of the .db file with its log; null on a server"),
    files_bytes=(maybe(WHOLE), "of the files in the store; null on a server"),
    files_place=(maybe(TEXT), "where the store is; null where the database names no valid place"),
    images_bytes=(WHOLE, "of decoded images"),
    agent_bytes=(WHOLE, "of the local agent: its queue and, during a run, copies of the models that it measures"),
    other_bytes=(WHOLE, "logs, and models that are deleted after their measurement"),
    shared_with=(several(TEXT), "the other studies of the database, which share it, its files and its images"),
    is_complete=(FLAG, "false where counting took over a second: it is at least this much"),
)
LEADER = and_more(
    METRICS,
    plan=(PLAN, "unpruned model"),
    shares=(by_name(NUMBER), "share of its MACs by precision"),
    warnings=(several(TEXT), "what is known against its precision or combination"),
)
STATUS = fields(
    study=(TEXT, "name of the study"),
    emulated=(FLAG, "whether its times are those of an emulated device"),
    devices=(several(TEXT), "its devices, each with its host, such as local@HOST"),
    trained=(WHOLE, "trainings so far"),
    wanted=(maybe(WHOLE), "trainings in all; null where the time is limited"),
    open=(WHOLE, "trials in progress"),
    runs=(
        several(
            fields(
                user=(TEXT, "who started the run"),
                host=(TEXT, "the machine of the run"),
                pid=(WHOLE, "its process there"),
                purpose=({"enum": ["search", "afterwards"]}, "a search, or work with its models such as ship"),
                since=(TEXT, "when it began (ISO 8601)"),
                doing=(by_name(TEXT), "stage that takes long -> how far it is"),
                waits=(maybe(TEXT), "what it waits for"),
            )
        ),
        "runs that are under way, here and on other machines",
    ),
    space_changes=(
        several(
            fields(
                time=(TEXT, "when a run adopted the edited file (ISO 8601)"),
                trials=(WHOLE, "trials that had finished by then"),
                lines=(several(TEXT), "what changed"),
            )
        ),
        "edits of the space file, oldest first",
    ),
    waits=(maybe(TEXT), "what a run waits for"),
    outcomes=(by_name(WHOLE), "outcome -> trials"),
    failures=(by_name(TEXT), "trial -> its plan, and the reason"),
    objectives=(by_name({"enum": ["maximize", "minimize"]}), "metric -> direction"),
    data=(maybe(ANYTHING), "identity of the data"),
    reference_point=(maybe(by_name(NUMBER)), "of the hypervolume"),
    leaderboard=(several(LEADER), "unpruned models"),
    class_warnings=(several(TEXT), "classes that the baseline or the front misses, in words"),
    cpu_seconds=(by_name(NUMBER), "stage -> CPU-seconds"),
    busy_share=(maybe(NUMBER), "share of the cores' time that stages used"),
    trainer_seconds=(NUMBER, "wall time of stages on trainers"),
    device_seconds=(NUMBER, "wall time of stages on devices"),
    reused_seconds=(NUMBER, "wall time of stages whose results were there already"),
    wall_seconds=(NUMBER, "time of all runs"),
    eta=(maybe(NUMBER), "share of wall_seconds that a perfect schedule would have needed"),
    disk=(DISK, "what the study takes on this machine"),
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
VERSIONS = fields(
    before=(maybe(TEXT), "version that was found; null where there were no tables"),
    after=(TEXT, "version now"),
)
UPGRADED = fields(
    storage=(TEXT, "the database, without its password"),
    results=(VERSIONS, "the tables of results"),
    trials=(VERSIONS, "Optuna's tables"),
)
COPIED = fields(
    source=(TEXT, "the database that was copied, without its password"),
    destination=(TEXT, "the other database, without its password"),
    studies=(
        several(
            fields(
                study=(TEXT, "name of the study"),
                trials=(WHOLE, "all trials"),
                open=(WHOLE, "trials that wait for a run"),
                is_new=(FLAG, "false where it was there already, with equal trials and runs"),
            )
        ),
        "each study that was asked for",
    ),
    results=(WHOLE, "results of stages that were added"),
    files=(WHOLE, "files that were added"),
    files_bytes=(WHOLE, "their size"),
    files_gone=(WHOLE, "files that results name and the old store has lost"),
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
    files=(
        several(ANYTHING),
        "each runtime, precision and quantized_ops: reason, difference, size_mb, latency_ms, shares",
    ),
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
