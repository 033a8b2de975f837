"""Deterministic initialisation that leaves the caller's random state alone."""

import contextlib
import random
from collections.abc import Iterator


@contextlib.contextmanager
def seeded_initializers(seed: int) -> Iterator[None]:
    """Makes every Keras initializer and dropout layer created inside follow from `seed`.

    Keras draws the default seed of each initializer and SeedGenerator from Python's `random`,
    so seeding that for the time of the construction also reaches the models of
    `keras.applications`, whose initializers cannot be passed in.
    """
    # Put back below: a caller's own draws must not depend on whether a model was built.
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
