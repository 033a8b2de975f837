"""A finished model on other inputs: files to predict, and a SavedModel that takes raw inputs.

Imports `records.decoding`, `records.sets` and `folders`. Begin with `read_inputs`
(tests/train/predict_test.py) or `served_model` (tests/train/export_test.py).
"""
