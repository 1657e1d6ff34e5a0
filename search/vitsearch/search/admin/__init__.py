"""What is done with studies as a whole, while nobody runs them.

copying.py             studies with their results and files into another database
device_acceptance.py   a device whose agent has another id than before, and is the same one
disk_use.py            what a study takes on this machine
housekeeping.py        which studies there are; delete one; free files that no result names
"""
