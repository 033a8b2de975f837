"""How a benchmark measures: rounds, clocks, child processes, equal work, result files.

Imports records, models and train, no other room. Begin with `session`.
"""
