"""TFRecord files: how records are framed, where each lies, and reading them by number.

Imports `system` and `sets`. Begin with `framing`, then `index`; test:
tests/records/shards/index_test.py.
"""
