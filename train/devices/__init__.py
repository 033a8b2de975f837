"""Devices, replicas and worker processes: strategies, how workers meet, how they agree.

Imports `records` and `settings`. Begin with `strategy.Cluster`. Private parts of TensorFlow stand
in `tensorflow_private` only.
"""
