"""From stored bytes to inputs: pictures, vectors, ids and texts, and the cleaning of texts.

Imports `system`, `sets` and `shards`. Begin with `modality`: one class for each kind of input.
Tests: tests/records/decoding (pixels, cleaning), tests/records/pipeline_test.py (the rest).
"""
