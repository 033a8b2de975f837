"""`python -m records.service`: batches made on other machines.

`worker` makes chunks, `trainer` asks for them. Imports `records` and its rooms below.
"""
