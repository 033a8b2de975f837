"""What `tests.support.forks` imports once: all that a run would import, and nothing started.

TensorFlow's devices are not set up by an import, so each forked process still sets its own.
"""

import gc

from records.system.quiet import import_tensorflow_quietly

gc.disable()  # what is imported stays
import_tensorflow_quietly()

import matplotlib.pyplot  # noqa: E402, F401
import PIL.Image  # noqa: E402, F401
import sklearn.linear_model  # noqa: E402
import sklearn.metrics  # noqa: E402
import sklearn.model_selection  # noqa: E402, F401
import tensorboard.plugins.hparams.summary_v2  # noqa: E402, F401
import tensorflow_datasets  # noqa: E402, F401

import models  # noqa: E402, F401
import train.engine.whole_run  # noqa: E402, F401

# A collection in a forked process would copy each page that it looks at.
gc.freeze()
gc.set_threshold(10_000, 10, 10)
gc.enable()
