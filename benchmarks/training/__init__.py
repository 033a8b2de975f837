"""Questions about training: `fit`, the step, time to a target, folds, replicas, what auto chooses.

Imports `measuring`, and `records` and `train` as a run does. Begin with `loop` (our side of each
question), then `fit`; `trainer` is the process of its own that several devices or another precision
need. Tests: tests/benchmarks/training.
"""
