"""Models outside of training: inputs read from files, models that take raw inputs.

Imports the rooms below it.
"""
