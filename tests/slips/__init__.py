"""The table of slips: short scripts with one mistake each, and what is said of it. `tests/test_slips.py` is the test.

A file of rows for each subject. In `generated.py` are rows made of what modules declare, at most five of a kind; all others
were written one by one, from the documents alone.
"""
