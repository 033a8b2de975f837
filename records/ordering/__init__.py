"""Which examples a step holds: the order, length buckets, validation cuts and folds.

Pure integer mathematics; imports nothing of ours. Begin with `order`; its test is
tests/records/ordering/order_test.py.
"""
