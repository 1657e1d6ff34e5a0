"""The task passes the conformance test: pytest examples/task"""

from costs import GROUPS, Costs
from vitsearch.testing.tasks import TaskTests


class TestCosts(TaskTests):
    task = Costs()
    class_names = tuple(f"class {number}" for number in range(len(GROUPS)))
