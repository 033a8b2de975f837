"""The worth of predictions: metrics, scores with intervals, thresholds, figures, worst errors.

Imports `records` and `settings`, nothing that trains. Begin with `metrics` (in training) or
`scores` (in `train.evaluate`).
"""
