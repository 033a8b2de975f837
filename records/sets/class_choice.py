"""Some of a set's classes, and several as one: which records stay, and what their class becomes."""

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClassChoice:
    """Chosen classes."""

    asked: tuple[str, ...]  # as they were named
    names: tuple[str, ...]  # the new classes, in the order in which they were named
    new_label: np.ndarray  # int64 [C], of each class of the set; -1: its records are left out

    def apply(
        self, label: np.ndarray, target: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(which records stay bool [N], their new labels [N], their new targets or None).

        `target` [N, C], of several classes at once: those with one of the chosen classes stay.
        """
        if target is None:
            return self.keep(label), self.relabel(label), None
        found = np.zeros((len(target), len(self.names)), target.dtype)
        for old, new in enumerate(self.new_label):
            if new >= 0:
                found[:, new] = np.maximum(found[:, new], target[:, old])
        return (label < 0) | found.any(1), label, found

    def keep(self, label: np.ndarray) -> np.ndarray:
        """bool [N]: the records that stay, by labels int64 [N]; also those without a class."""
        return ~self._has_class(label) | (self.relabel(label) >= 0)

    def relabel(self, label: np.ndarray) -> np.ndarray:
        """The new labels int64 [N]; what is no class of the set stays as it is."""
        has_class = self._has_class(label)
        return np.where(has_class, self.new_label[np.where(has_class, label, 0)], label)

    def _has_class(self, label: np.ndarray) -> np.ndarray:
        return (label >= 0) & (label < len(self.new_label))


def choose_classes(asked: Sequence[str], names: tuple[str, ...], of_set: str) -> ClassChoice:
    """Reads a choice: names of the set's classes, or NEW=A,B, the classes A and B as one, NEW.

    Raises:
      ValueError: a class that is not there or is named twice, or fewer than two remain.
    """
    new_label, chosen = np.full(len(names), -1), []
    for number, text in enumerate(asked):
        new, equals, rest = text.partition("=")
        # A name may hold "=" or ",".
        if text in names or not equals:
            new, members = text, [text]
        else:
            members = [rest] if rest in names else [name.strip() for name in rest.split(",")]
        chosen.append(new.strip())
        for name in members:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise ValueError(
                    f"data set: --classes expected classes of {of_set} ({', '.join(names)}), or "
                    f"NEW=A,B, received {name!r}" + (f"; nearest: {near[0]!r}" if near else "")
                )
            if new_label[names.index(name)] >= 0:
                raise ValueError(f"data set: --classes expected {name!r} once, received it twice")
            new_label[names.index(name)] = number
    if len(set(chosen)) < max(2, len(chosen)) or "" in chosen:
        raise ValueError(
            f"data set: --classes expected two or more classes of different names, received "
            f"{', '.join(chosen)}"
        )
    return ClassChoice(tuple(asked), tuple(chosen), new_label)
