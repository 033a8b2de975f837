"""A whole run: epochs, validation, checkpoints, signals, reports.

Imports the rooms below it. Begin with `whole_run`.
"""
