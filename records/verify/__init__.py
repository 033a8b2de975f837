"""`python -m records.verify`: checks every record, finds leakage, writes a repaired copy.

Imports `records` and its rooms below. Begin with `check`.
"""
