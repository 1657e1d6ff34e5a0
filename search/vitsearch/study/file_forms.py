"""The form of the files that the leaderboard has found for each unpruned model of a study, where the space file says
`auto`: the value of each of `FORM_KNOBS`."""

from __future__ import annotations

from vitsearch.study.sampling import Unpruned
from vitsearch.study.study import Study

ATTRIBUTE = "file_forms"
Forms = dict[str, dict[str, str]]
"""Key of an unpruned model -> knob -> value."""


class FileForms:
    """What the study has stored, and what is found in this run."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._forms: Forms = dict(study.attributes.get(ATTRIBUTE, {}))

    def __call__(self, model: Unpruned, knob: str) -> str | None:
        """The value that was found; None before."""
        return self._forms.get(model.key, {}).get(knob)

    def keep(self, model: Unpruned, knob: str, value: str) -> None:
        """Store the choice for a model, unless another run of the study has stored one."""

        def with_choice(stored: Forms | None) -> Forms:
            choices = stored or {}
            return choices | {model.key: {knob: value} | choices.get(model.key, {})}

        self._forms = self._study.change(ATTRIBUTE, with_choice)
