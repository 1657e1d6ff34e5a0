"""What is done with studies that nobody runs.

copying.py        studies with their results and files into another database
accepting.py      a device whose agent has another id than before, and is the same one
answers.py        the answers of exported files on the validation images, computed again
housekeeping.py   which studies there are, what they take on disk; delete one; free files that no result names
workplace.py      workers and the device, for what is made of the models of a study after its search
"""
