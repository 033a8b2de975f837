"""`python -m records.describe`: figures and tables of a prepared set, one module per modality.

Imports `records` and its rooms below. Begin with `__main__`, then `read` (one pass over a split);
test: tests/records/describe/describe_test.py.
"""
