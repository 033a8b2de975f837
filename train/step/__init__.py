"""A training step and what surrounds it: the feed, the loss, precision, predictions.

Imports `records`, `models`, `devices` and `measures`. Begin with `train_step`: it runs the K steps
of one `Chunk`, which `feed` makes. Their tests in tests/train/step have the same names. Private
parts of Keras: `keras_private` only.
"""
