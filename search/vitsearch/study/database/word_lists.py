"""The choices of each parameter that is a word, in the order in which a study first had them.

Optuna refuses a list of choices that differs between trials. A space file may gain a choice between two runs; then the
stored list grows at its end, and Optuna's copy of the study is made anew with the longer one. Trials store the word.
"""

from __future__ import annotations

from vitsearch.study.database.view import StudyView

CHOICES = "choices"
"""The attribute of a study with the lists."""


class WordLists:
    """Those of the study that `view` shows, which several drivers may lengthen."""

    def __init__(self, view: StudyView) -> None:
        self._view = view
        self._used: dict[str, tuple[str, ...]] = {}
        self.revision = 0
        """Differs from an earlier one if a list has grown since."""

    def of(self, name: str) -> tuple[str, ...]:
        """The list of a parameter that trials have."""
        if name not in self._used:
            self.catch_up()
        return self._used[name]

    def choices(self, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        """The stored order with new words behind it."""
        if set(choices) <= set(self._used.get(name, ())):
            return self._used[name]

        def lengthened(stored: dict[str, list[str]] | None) -> dict[str, list[str]]:
            before = (stored or {}).get(name, [])
            return (stored or {}) | {name: [*before, *(choice for choice in choices if choice not in before)]}

        self._use(self._view.change_attribute(CHOICES, lengthened))
        return self._used[name]

    def catch_up(self) -> None:
        """Read what other drivers have added."""
        self._use(self._view.attribute(CHOICES) or {})

    def _use(self, stored: dict[str, list[str]]) -> None:
        now = {name: tuple(words) for name, words in stored.items()}
        self.revision += any(now.get(name) != words for name, words in self._used.items())
        self._used = now
