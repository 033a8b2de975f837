"""Benchmarks: how fast this system is beside others, on the same data in the same run.

`python -m benchmarks.run --help` explains the command. Every figure is examples over time,
measured by iterating and consuming, and stands beside a peer measured in alternation with it.
"""
