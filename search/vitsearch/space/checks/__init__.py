"""Checks beyond the form of a space file: whether its values fit together and whether the backbones support them.

valid_parts.py  the values that are valid in themselves, so that one mistake hides no other
rules.py        values that must fit together
support.py      values that the backbones or the runtimes of the file do not support
"""
