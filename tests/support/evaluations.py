"""What the ledger has of a file that classified images as these confusion counts say."""

from collections.abc import Sequence

from vitsearch.core.figures import Metrics
from vitsearch.storage.ledger import EvaluationRow
from vitsearch.tasks.classification.confusion import Confusion
from vitsearch.tasks.classification.task import judged_counts

NAMES = tuple(map(str, range(10)))


def evaluation(
    artifact_key: str,
    split: str,
    cells: Sequence[Sequence[int]],
    evaluated_on: str = "worker",
    class_names: Sequence[str] = NAMES,
) -> EvaluationRow:
    counts = Confusion.from_json(cells)
    judged = judged_counts(counts, class_names)
    return EvaluationRow(
        artifact_key, split, counts.n, evaluated_on, 1, Metrics(judged.figures).to_json(), judged.tally
    )
