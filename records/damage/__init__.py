"""Finds damaged records and marks them, so that training can pass them over.

`scan` looks at each record where the index says it lies, `walk` reads a shard without an index,
`skipping` marks what they found. Imports `system`, `sets`, `shards` and `decoding`. Begin with
`scan`; test: tests/faults/records_test.py.
"""
