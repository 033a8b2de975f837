"""`python -m records.service`: batches made on other machines.

Imports `records` and its rooms below. Begin with `worker`, which makes chunks, then `trainer`,
which asks for them; tests: tests/records/service.
"""
