"""Early stopping: the best value so far of the monitored metric, and how long ago it was."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from train.measures.metrics import SMALL_IS_GOOD


@dataclasses.dataclass
class BestSoFar:
    """What early stopping has to remember."""

    # Best value of the monitored metric, signed so that more is better; None before any.
    best: float | None = None
    waited: int = 0  # epochs since then

    def judge(self, figures: Mapping[str, float], monitor: str) -> bool:
        """Takes an epoch's validation figures; whether `monitor` is better than ever before."""
        value = figures[monitor]
        signed = -value if monitor in SMALL_IS_GOOD else value
        signed = signed if np.isfinite(signed) else -np.inf  # worse than any number
        # Strictly better: of equal epochs the first one's weights are kept, however often they
        # recur.
        if self.best is None or signed > self.best:
            self.best, self.waited = signed, 0
            return True
        self.waited += 1
        return False
