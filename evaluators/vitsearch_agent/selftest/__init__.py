"""What the first owner of a board types: everything that the agent needs there is tried once, and written to one file.

recording.py         what the readers of /sys, /proc and of tools find here, to be replayed elsewhere
reference_runs.py    the reference models, measured without an agent
tflite_models.py     the reference models for runtimes that read no ONNX
steps.py             the steps, each with its outcome
report.py            the file
selftest.py          the steps one after the other, within ten minutes
"""
