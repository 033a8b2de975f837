"""What this system is compared with, one file per peer, each set up as its own guide advises.

Most run in environments of their own, and import nothing of ours but each other. Those that run in
this one (Keras, TFDS) may import `records`, `models`, `train` and `measuring`. Begin with
`protocol`, then `guide` (`tf.data` tuned by hand); test: tests/benchmarks/input/libraries_test.py.
"""
