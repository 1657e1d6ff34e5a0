"""A bundle of `vitsearch ship`, verified: its files, its outputs and its measurements.

bundle.py          reads a bundle
checksums.py       its files against its list of checksums
signature.py       the signature of that list
file_names.py      which names files of a bundle may have
unpacking.py       unpacks the zip of a bundle, and names what of it is damaged
preprocessing.py   from image files to the input of the model; every bundle holds a copy
images.py          the images to run: those of the bundle, or those of a folder; what was shipped beside them
model_runner.py    what runs and measures the model: this machine, or a device behind its agent
metrics.py         the metrics of the built-in tasks, from outputs
likeness.py        the outputs of a model that is no classifier, beside its reference and those shipped
checks.py          passes or fails what was found, by the figures and intervals of a bundle
verify.py          all of it, in order
junit.py           the checks as JUnit XML
"""
