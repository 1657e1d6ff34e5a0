"""What a study has found, for the person who chooses a model: plain values, read from records and the ledger.

expression.py   the small language of `--where`            selection.py   models filtered, sorted; which are tied
nearest.py      what came nearest when nothing is feasible, and which limit to loosen by how much
detail.py       one trial in full                          comparison.py  two models, metric by metric, knob by knob
effects.py      what each knob does to a figure            objectives.py  its effects on each objective of a study
explanation.py  these effects in words, and what predictions were worth
exports.py      the models as rows of other tools' tables
"""
