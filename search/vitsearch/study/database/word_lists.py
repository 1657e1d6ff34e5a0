"""The choices of each parameter that is a word, in the order in which a study first had them.

Optuna keeps the list of choices with each trial and refuses another one. A space file may gain a choice between two
runs; then its rows are rewritten with the longer list.
"""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution

from vitsearch.study.database.view import StudyView


class WordLists:
    """Those of the study that `view` shows, which several drivers may lengthen."""

    def __init__(self, view: StudyView) -> None:
        self._view = view
        self._used: dict[str, tuple[str, ...]] = {}

    def choices(self, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        """The stored order with new words behind it."""
        if set(choices) <= set(self._used.get(name, ())):
            return self._used[name]  # as stored: catch_up has just compared them
        before: tuple[str, ...] = ()

        def lengthened(stored: dict[str, list[str]] | None) -> dict[str, list[str]]:
            nonlocal before
            before = tuple((stored or {}).get(name, ()))
            return (stored or {}) | {name: [*before, *(choice for choice in choices if choice not in before)]}

        after = tuple(self._view.change_attribute("choices", lengthened)[name])
        if before and after != before:
            self._view.lengthen(name, CategoricalDistribution(before), CategoricalDistribution(after))
        self._used[name] = after
        return after

    def catch_up(self) -> None:
        """Read the study again when another driver has lengthened a list. What was written here with the shorter one
        meanwhile, nobody else rewrites."""
        stored = self._view.attribute("choices") or {}
        grown = {name: used for name, used in self._used.items() if tuple(stored[name]) != used}
        for name, used in grown.items():
            self._view.lengthen(name, CategoricalDistribution(used), CategoricalDistribution(stored[name]))
        if grown:
            self._used.clear()
            self._view.reload()
