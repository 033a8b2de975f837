"""Finds damaged records and marks them, so that training can pass them over.

Imports the rooms below it up to `loading`. Begin with `scan`.
"""
