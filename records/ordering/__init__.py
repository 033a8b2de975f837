"""Which examples a step holds: the order, length buckets, validation cuts and folds.

Pure integer mathematics; imports `system`. Begin with `order`.
"""
