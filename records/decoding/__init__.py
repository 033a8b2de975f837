"""From stored bytes to inputs: pictures, ids and vectors, and the cleaning of texts.

Imports `system`, `sets` and `shards`. Begin with `decode`.
"""
