"""Questions about `tfds build`.

Imports `measuring`.
"""
