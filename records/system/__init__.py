"""The ground: files written whole, threads, processes, memory, progress. Knows nothing of records.

Imports nothing of ours. Begin with `threads` and `writing`; tests: tests/records/system.
"""
