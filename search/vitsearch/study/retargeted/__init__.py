"""The finished models of a study on other devices, or with other threads, runtimes or precisions.

target.py   where they are to run        stored.py   what was measured and predicted there, as the study stores it
"""

from vitsearch.study.retargeted.stored import Fit, Prediction, Retargeted, find, names
from vitsearch.study.retargeted.target import Target

__all__ = ["Fit", "Prediction", "Retargeted", "Target", "find", "names"]
