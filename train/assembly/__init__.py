"""Puts together what a run needs before its first step: data, model, optimizer, step.

Imports `records`, `models` and the rooms of `train` below it. Begin with `context`, then
`data.open_context` and `training.build_training`; whole runs test it: tests/train/run_test.py.
"""
