"""Plans that a person writes: in the words of a space file, or as ``vitsearch front --json`` prints them.

words.py  file -> a space file with one value for each knob, which gives the checks and the messages of a space file
read.py   that space file -> Plan; what is left out is filled in, and all reasons against the plan are reported
"""
