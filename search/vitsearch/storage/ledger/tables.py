"""All tables of a database. The results of stages are shared by all studies in it.

    block_structure  what may be cut and how important it is     (starting weights, resolution, calibration)
    training         one finished rung of one training           (weights_key, rung); rung 0: closed form
    artifact         a stored file                               (artifact_key)
    evaluation       of an artifact on a split, on its runtime   (artifact_key, split, n, evaluated_on)
    measurement      of a graph on a device                      (graph_key, device, environment, protocol, repeat)
    reference_times  of the reference models, as known now       (device, environment, reference, runtime, threads)
    claim            which driver makes one of the above now, until when (database time)
    files_place      one row: where the files are (empty: in the folder beside the database)
    run              one `vitsearch run` of a study: from when to when, on how many cores, by which process (`driver`;
                     none for the run of a copied study), who has told it to end, and what it does `now`
                     (`RunState`)
    stage_cost       what one run of a stage took, once, however many results it gave
    study            a study and its objectives                  (name)
    study_attribute  what is stored beside its trials, as JSON   (study, name)
    trial            what was asked, who runs it, its record     (study, number)
    version          one row: which program made all of these (`vitsearch.storage.ledger.schema`)

`qualities` are the metrics of the task by name, `errors` their standard deviations, `figures` the same with intervals
and reasons (`core.figures.Metrics`),
`tally` what else the task keeps of outputs, such as confusion counts.

A row of a result is written once and never changed, except for reference times, claims, and what a run does and when
it ends; it is deleted when its file is gone. What it cost stays. `versions` are columns for people, never part of a
key.
"""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()
KEYS_AT_ONCE = 500
"""Values that are named in one statement; databases limit how many."""


version = Table("vitsearch_version", metadata, Column("version_num", String(32), primary_key=True))


def _digest() -> Column[object]:
    """That of the other columns (`vitsearch.storage.ledger.seals`)."""
    return Column("digest", String(64), nullable=False)


def _made_columns() -> list[Column[object]]:
    """What made a row: the run of a stage (`run_id` of `vs_stage_cost`), library versions, database time; and its
    digest."""
    return [
        Column("made_by", String(32), nullable=False),
        Column("versions", JSON, nullable=False),
        Column("created_at", Float, nullable=False),
        _digest(),
    ]


block_structure = Table(
    "vs_block_structure",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("weights_sha256", String(64), nullable=False),
    Column("resolution", String(16), nullable=False),
    Column("calibration", String(64), nullable=False),
    Column("block_structure", JSON, nullable=False),
    Column("scores", JSON, nullable=False),
    Column("statistics_sha256", String(64), nullable=False),
    *_made_columns(),
)

training = Table(
    "vs_training",
    metadata,
    Column("weights_key", String(64), primary_key=True),
    Column("rung", Integer, primary_key=True),
    Column("qualities", JSON, nullable=False),
    Column("divergence", Float),
    Column("errors", JSON, nullable=False),
    Column("n", Integer, nullable=False),
    Column("checkpoint_sha256", String(64)),
    *_made_columns(),
)

artifact = Table(
    "vs_artifact",
    metadata,
    Column("artifact_key", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("location", String(512), nullable=False),
    Column("detail", JSON, nullable=False),
    *_made_columns(),
)

evaluation = Table(
    "vs_evaluation",
    metadata,
    Column("artifact_key", String(64), primary_key=True),
    Column("split", String(64), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("evaluated_on", String(64), primary_key=True),
    Column("batch", Integer, nullable=False),
    Column("figures", JSON, nullable=False),
    Column("tally", JSON),
    *_made_columns(),
)

measurement = Table(
    "vs_measurement",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("graph_key", String(64), nullable=False, index=True),
    Column("artifact_sha256", String(64), nullable=False),
    Column("device_id", String(64), nullable=False),
    Column("environment_id", String(64), nullable=False),
    Column("protocol", String(64), nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("result", JSON, nullable=False),
    Column("structure", String(64), index=True),
    *_made_columns(),
    UniqueConstraint("graph_key", "device_id", "environment_id", "protocol", "repeat", name="vs_measurement_once"),
)

reference_times = Table(
    "vs_reference_times",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("environment_id", String(64), primary_key=True),
    Column("reference", String(64), primary_key=True),
    Column("runtime", String(64), primary_key=True),
    Column("threads", Integer, primary_key=True),
    Column("times", JSON, nullable=False),
    Column("started_at", String(64), nullable=False),
    _digest(),
)

claim = Table(
    "vs_claim",
    metadata,
    Column("key", String(160), primary_key=True),
    Column("token", String(512), nullable=False),
    Column("expires_at", Float, nullable=False),
)

files_place = Table(
    "vs_files_place",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("database", String(32), nullable=False),
    Column("address", String(1024), nullable=False),
)

run = Table(
    "vs_run",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study", String(512), nullable=False, index=True),
    Column("purpose", String(16), nullable=False),
    Column("host", String(255), nullable=False),
    Column("driver", String(512)),
    Column("cores", Integer, nullable=False),
    Column("trainers", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("told_to_end", String(255)),
    Column("now", JSON),
)

stage_cost = Table(
    "vs_stage_cost",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(32), nullable=False, index=True),
    Column("run", Integer, index=True),
    Column("stage", String(32), nullable=False),
    Column("detail", String(64), nullable=False, index=True),
    Column("started_at", Float, nullable=False),
    Column("wall_seconds", Float, nullable=False),
    Column("cpu_seconds", Float, nullable=False),
    Column("ran_on", String(255), nullable=False),
    Column("backbone", String(255), nullable=False),
    Column("peak_memory_mb", Float),
)

study = Table(
    "vs_study",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(512), nullable=False, unique=True),
    Column("objectives", Text, nullable=False),
    _digest(),
)

study_attribute = Table(
    "vs_study_attribute",
    metadata,
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("name", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    _digest(),
)

trial = Table(
    "vs_trial",
    metadata,
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("beat_at", Float),
    Column("driver", Text),
    Column("trains", String(64)),
    Column("enqueued", Text),
    Column("fixed", Text),
    Column("params", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("record", Text),
    Column("asked_digest", String(64), nullable=False),
    Column("told_digest", String(64)),
    Index("vs_trial_by_state", "study", "state", "number", "trains"),
)
STUDIES = (study, study_attribute, trial)
"""The tables of studies; all others are the ledger's."""
