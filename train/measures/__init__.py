"""The worth of predictions: metrics, scores with intervals, thresholds, figures, worst errors.

Imports `records`, and no other room of `train`. Begin with `metrics` (in training) or `scores` (in
`train.evaluate`); the tests in tests/train/measures have the same names.
"""
