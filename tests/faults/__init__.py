"""Faults done to real peers, a row each: what the agent must say, by when, and by when media must flow again.

`scripts/faults` runs the whole table and prints its times; `test_quick.py` holds the quick rows in the test suite.
"""
