"""Questions about input: readers, other libraries, limits, growing sets, emulated accelerators.

Imports `records`, `train.step` and `train.devices`, `measuring` and, of `peers`, those that run in
this environment. Begin with `readers`, then `libraries`; `reading_child` is a process that reads
one set and tells its memory. Tests: tests/benchmarks/input.
"""
