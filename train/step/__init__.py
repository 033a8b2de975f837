"""A training step and what surrounds it: the feed, the loss, precision, predictions.

Imports `records`, `models`, `settings`, `devices` and `measures`. Begin with `train_step`: it runs
the K steps of one `Chunk`, which `feed` makes. Private parts of Keras: `keras_private` only.
"""
