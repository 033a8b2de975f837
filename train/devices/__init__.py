"""Replicas and worker processes: strategies, how workers meet, how they agree.

Imports `records`. Begin with `strategy`.
"""
