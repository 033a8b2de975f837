"""One call of K steps on the devices, and what feeds it.

Imports the rooms below it. Begin with `train_step`.
"""
