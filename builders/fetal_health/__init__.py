"""TFDS builder of the set fetal_health."""

import sys
from pathlib import Path

if "." not in __name__:
    # `tfds build <path>` imports this folder by its bare name, with only the folder above it on
    # the path; the builder also needs the packages `builders` and `records` beside that one.
    _repository = str(Path(__file__).resolve().parents[2])
    if _repository not in sys.path:
        sys.path.insert(0, _repository)
