"""Figures of predictions: metrics in training, scores with intervals, thresholds, plots.

Imports `settings`. Begin with `metrics`.
"""
