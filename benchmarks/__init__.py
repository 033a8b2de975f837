"""Benchmarks: how fast this system is beside others, on the same data in the same run.

Every figure is examples over time, measured by iterating and consuming, and stands beside another
system's, measured in turn with it. Imports all packages; none imports this one. Begin with `run`,
which lists the suites and their parts; its test is tests/benchmarks/run_test.py.

Rooms, from the ground up: `measuring`, `input`, `training`, `build`, `reports`; beside them
`peers`, the other systems, of which most run in environments of their own.
"""
