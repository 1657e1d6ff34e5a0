"""The built-in tasks pass the conformance test that is public."""

from __future__ import annotations

from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.embedding.task import EMBEDDING
from vitsearch.testing.tasks import TaskTests


class TestClassification(TaskTests):
    task = CLASSIFICATION
    class_names = tuple("abcdefgh")


class TestEmbedding(TaskTests):
    task = EMBEDDING
