"""A whole run: epochs, validation, checkpoints, signals, reports.

Imports `records` and the rooms of `train` below it. Begin with `whole_run`, then `loop`; tests:
tests/train/engine, of which resume_test.py is the central one.
"""
