"""`python -m records.verify`: checks every record, finds leakage, writes a repaired copy.

Imports `damage` and the rooms below it. Begin with `check`; test: tests/faults/records_test.py.
"""
