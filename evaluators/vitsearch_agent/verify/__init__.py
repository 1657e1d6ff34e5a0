"""A bundle of `vitsearch ship`, verified: its files, its accuracy and its measurements.

bundle.py          reads a bundle
checksums.py       its files against its list of checksums
signature.py       the signature of that list
file_names.py      which names files of a bundle may have
unpacking.py       unpacks the zip of a bundle, and names what of it is damaged
preprocessing.py   from image files to the input of the model; every bundle holds a copy
images.py          the labelled images to classify: those of the bundle, or those of a folder
model_runner.py    what classifies and measures: this machine, or a device behind its agent
checks.py          passes or fails what was found, by the figures and intervals of a bundle
verify.py          all of it, in order
junit.py           the checks as JUnit XML
"""
