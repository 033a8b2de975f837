"""What a prepared set is: its place, schema, metadata, fingerprint, and the commands that mend it.

Imports `system`. Begin with `schema`; its test is tests/records/sets/schema_test.py.
"""
