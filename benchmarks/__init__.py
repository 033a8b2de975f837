"""Benchmarks: how fast this system is beside others, on the same data in the same run.

Every figure is examples over time, measured by iterating and consuming, and stands beside another
system's, measured in turn with it. Begin with `run`, which lists the suites and their parts.

Rooms, from the ground up: `measuring`, `input`, `training`, `build`, `reports`; beside them
`peers`, the other systems, of which most run in environments of their own.
"""
