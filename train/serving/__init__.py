"""A finished model on other inputs: files to predict, and a SavedModel that takes raw inputs.

Imports the rooms below it. Begin with `read_inputs` (`train.predict`) or `served_model`
(`train.export`).
"""
