"""Puts together what a run needs before its first step: data, model, optimizer, step.

Imports the rooms below it. Begin with `context`, then `data.open_context` and
`training.build_training`.
"""
