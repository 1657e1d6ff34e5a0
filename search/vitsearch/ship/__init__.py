"""One model of a study as a bundle: a folder and a zip with everything that a user of the model needs.

choice.py         which model: by its trial, the knee, or the best one that meets limits
prepare.py        what a bundle needs beyond the search: test images, a confirmation, a longer training
bundled_model.py  everything that is known of a model, from the ledger
contents.py       the files of a bundle, by their names
card.py           its README.md
examples.py       its runnable examples, and the command lines of the runtimes' own tools
npu.py            the file compiled for chips, and run in the emulation of their NPUs
shipped_context.py  such a file with what was seen of it
writing.py        the folder and the zip, whole or not at all
ship.py           all of it, in order
"""
