"""Many runs: trials of a sweep, the study that its workers share, folds trained at once.

Imports `records`, `models` and the rooms of `train` below it. Begin with `trial`; tests:
tests/train/sweep_test.py and tests/train/search/folds_at_once_test.py.
"""
