"""What `--json` prints of a study: frozen values in which each field says what it is.

models.py   a model, a front, what came nearest to the limits, the front on another device
details.py  one model in full, and two compared
effects.py  what each knob did
"""
