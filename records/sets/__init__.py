"""What a prepared set is: its schema, its metadata, its fingerprint, the commands that mend it.

Imports `system`. Begin with `schema`; its test is tests/records/sets/schema_test.py.
"""
