"""A class that must not be missed: predicted from a probability on, the likeliest or not."""

import dataclasses
from typing import Any

import numpy as np

from records.system.table_file import plain_name


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Decides for a class where its probability reaches `least`, else for the likeliest other."""

    number: int  # of the class
    least: float  # probability in (0, 1]

    def decide(self, probability: np.ndarray) -> np.ndarray:
        """Numbers of classes, int64 [n], for probabilities float [n, C]."""
        others = np.array(probability, np.float64)
        # Below every probability: the class is not among the others.
        others[:, self.number] = -1.0
        reached = probability[:, self.number] >= self.least
        return np.where(reached, self.number, others.argmax(1))


def choose_threshold(
    probability: np.ndarray, labels: np.ndarray, number: int, recall: float
) -> Threshold:
    """The highest threshold at which at least `recall`, in (0, 1], of a class's examples are found.

    `probability`, float [n, C], and `labels`, int [n], are of validation examples: not those it is
    measured on afterwards.

    Raises:
      ValueError: no example of the class.
    """
    own = np.sort(probability[labels == number, number])[::-1]
    if not len(own):
        raise ValueError(
            f"evaluate: class {number} expected among the validation examples, received none"
        )
    # 0.07 * 100 is 7.000000000000001: that is 7 examples, not 8. One at least has to be found.
    wanted = max(1, int(np.ceil(round(recall * len(own), 9))))
    return Threshold(number, float(own[wanted - 1]))


def parse_threshold(text: str, names: tuple[str, ...], flag: str) -> tuple[int, float]:
    """(number of the class, share in (0, 1]) of `CLASS=X`.

    Raises:
      ValueError: no such class, or no such share.
    """
    name, _, value = text.rpartition("=")
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if name not in names:  # a terminal may write the same name in another way
        name = next((known for known in names if plain_name(known) == plain_name(name)), name)
    if name not in names or not 0 < share <= 1:
        raise ValueError(
            f"evaluate: {flag} expected CLASS=X with one of the classes {', '.join(names)} "
            f"and 0 < X <= 1, received {text!r}"
        )
    return names.index(name), share


def measure_decision(
    threshold: Threshold, probability: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Figures of a split with the threshold and, for comparison, without it.

    Returns:
      `threshold`, and under `with` and `without`: `recall` and `precision` of the class (precision
      0 where it was never decided for, recall None without examples), `accuracy` and `weighted_f1`.
    """
    from sklearn import metrics

    def figures(predicted: np.ndarray) -> dict[str, float | None]:
        is_class, decided = labels == threshold.number, predicted == threshold.number
        f1 = metrics.f1_score(labels, predicted, average="weighted", zero_division=0)
        return {
            "recall": float(decided[is_class].mean()) if is_class.any() else None,
            "precision": float(is_class[decided].mean()) if decided.any() else 0.0,
            "accuracy": float((predicted == labels).mean()),
            "weighted_f1": float(f1),
        }

    return {
        "threshold": threshold.least,
        "with": figures(threshold.decide(probability)),
        "without": figures(probability.argmax(1)),
    }
