"""The first tables: block_structure, training, artifact, accuracy, measurement, reference_times,
claim, files_place, run, stage_cost."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = None
branch_labels = None
depends_on = None


def _made() -> list[sa.Column[object]]:
    return [
        sa.Column("made_by", sa.String(32), nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "vs_block_structure",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("resolution", sa.Integer, nullable=False),
        sa.Column("calibration", sa.String(64), nullable=False),
        sa.Column("block_structure", sa.JSON, nullable=False),
        sa.Column("scores", sa.JSON, nullable=False),
        sa.Column("statistics_sha256", sa.String(64), nullable=False),
        *_made(),
    )
    op.create_table(
        "vs_training",
        sa.Column("weights_key", sa.String(64), primary_key=True),
        sa.Column("rung", sa.Integer, primary_key=True),
        sa.Column("accuracy", sa.Float, nullable=False),
        sa.Column("kl", sa.Float),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("checkpoint_sha256", sa.String(64)),
        sa.Column("confusion", sa.JSON),
        *_made(),
    )
    op.create_table(
        "vs_artifact",
        sa.Column("artifact_key", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("location", sa.String(512), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        *_made(),
    )
    op.create_table(
        "vs_accuracy",
        sa.Column("artifact_key", sa.String(64), primary_key=True),
        sa.Column("split", sa.String(64), primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("evaluated_on", sa.String(64), primary_key=True),
        sa.Column("correct", sa.Integer, nullable=False),
        sa.Column("batch", sa.Integer, nullable=False),
        sa.Column("confusion", sa.JSON, nullable=False),
        *_made(),
    )
    op.create_table(
        "vs_measurement",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("graph_key", sa.String(64), nullable=False, index=True),
        sa.Column("artifact_sha256", sa.String(64), nullable=False),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("environment_id", sa.String(64), nullable=False),
        sa.Column("protocol", sa.String(64), nullable=False),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
        sa.Column("structure", sa.String(64), index=True),
        *_made(),
        sa.UniqueConstraint(
            "graph_key", "device_id", "environment_id", "protocol", "repeat", name="vs_measurement_once"
        ),
    )
    op.create_table(
        "vs_reference_times",
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("environment_id", sa.String(64), primary_key=True),
        sa.Column("reference", sa.String(64), primary_key=True),
        sa.Column("runtime", sa.String(64), primary_key=True),
        sa.Column("threads", sa.Integer, primary_key=True),
        sa.Column("times", sa.JSON, nullable=False),
    )
    op.create_table(
        "vs_claim",
        sa.Column("key", sa.String(160), primary_key=True),
        sa.Column("token", sa.String(512), nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_table(
        "vs_files_place",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("database", sa.String(32), nullable=False),
        sa.Column("address", sa.String(1024), nullable=False),
    )
    op.create_table(
        "vs_run",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("study", sa.String(512), nullable=False, index=True),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("driver", sa.String(512)),
        sa.Column("cores", sa.Integer, nullable=False),
        sa.Column("trainers", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("told_to_end", sa.String(255)),
        sa.Column("now", sa.JSON),
    )
    op.create_table(
        "vs_stage_cost",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.String(32), nullable=False, index=True),
        sa.Column("run", sa.Integer, index=True),
        sa.Column("stage", sa.String(32), nullable=False),
        sa.Column("detail", sa.String(64), nullable=False, index=True),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("wall_seconds", sa.Float, nullable=False),
        sa.Column("cpu_seconds", sa.Float, nullable=False),
        sa.Column("ran_on", sa.String(255), nullable=False),
        sa.Column("backbone", sa.String(255), nullable=False),
        sa.Column("peak_memory_mb", sa.Float),
    )


def downgrade() -> None:
    results = ("measurement", "accuracy", "artifact", "training", "block_structure")
    for table in ("stage_cost", "run", "files_place", "claim", "reference_times", *results):
        op.drop_table(f"vs_{table}")
