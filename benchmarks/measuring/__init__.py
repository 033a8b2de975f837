"""How a benchmark measures: rounds, clocks, child processes, equal work, result files.

Imports `records` and `train.settings`, no other room of `benchmarks`. Begin with `comparison` (the
answer to a question) and `timing`, then `work` (what all systems do) and `session` (a run is kept).
Test: tests/benchmarks/measuring/timing_test.py.
"""
