"""How a benchmark measures: rounds, clocks, child processes, equal work, result files.

Imports `records` and `train`, no other room of `benchmarks`. Begin with `timing` (what a sample and
a comparison are), then `work` (what all systems have to do) and `session` (how a run is kept).
"""
