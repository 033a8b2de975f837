"""`python -m records.describe`: figures and tables of a prepared set, one module per modality.

Imports `records` and its rooms below.
"""
