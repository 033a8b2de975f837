"""Replicas and worker processes: strategies, how workers meet, how they agree.

Imports `settings`. Begin with `strategy`.
"""
