"""The built-in tasks pass the conformance test that is public, and it catches what tasks must not do."""

from __future__ import annotations

import pytest

from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.classification.task import Classification
from vitsearch.tasks.embedding.task import EMBEDDING
from vitsearch.tasks.segmentation.task import SEGMENTATION
from vitsearch.testing.tasks import TaskTests


class TestClassification(TaskTests):
    task = CLASSIFICATION
    class_names = tuple("abcdefgh")


class TestEmbedding(TaskTests):
    task = EMBEDDING


class TestSegmentation(TaskTests):
    task = SEGMENTATION


class ChangesLabels(Classification):
    def judge(self, outputs, truth):
        judged = super().judge(outputs, truth)
        truth.labels[0] = 2
        return judged


class ChangesTheReference(Classification):
    def diverge(self, outputs, reference):
        reference *= 1.5
        return super().diverge(outputs, reference)


@pytest.mark.parametrize("faulty", [ChangesLabels(), ChangesTheReference()], ids=lambda task: type(task).__name__)
def test_a_task_that_changes_what_it_is_given_is_caught(faulty):
    tests = TestClassification()
    tests.task = faulty
    with pytest.raises(AssertionError):
        tests.test_what_is_judged_is_left_as_it_is()
