"""Devices, replicas and worker processes: strategies, how workers meet, how they agree.

Imports nothing of ours. Begin with `strategy.Cluster`; tests: tests/train/devices. Private parts
of TensorFlow stand in `tensorflow_private` only.
"""
