"""`python -m records.diagnose`: names the slowest stage of the input.

Imports `records` and its rooms below. Begin with `measure`; test:
tests/records/diagnose/diagnose_test.py.
"""
