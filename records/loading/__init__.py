"""Decoded examples from shards: unit by unit, kept in memory or on disk, or streamed.

Imports `system`, `sets`, `shards` and `decoding`. Begin with `load`, then `cache`; tests:
tests/records/loading.
"""
