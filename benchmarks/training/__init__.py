"""Questions about training: `fit`, steps, time to a target, folds, replicas.

Imports `measuring`. Begin with `fit`.
"""
