"""What a prepared set is: its schema, its metadata, its fingerprint.

Imports `system`. Begin with `schema`.
"""
