"""Chooses train, validation and test pictures, without and with removal of copies."""

import hashlib
from collections import Counter, defaultdict

from builders.brain_tumor_mri.pictures import LABEL_NAMES, Picture

VALIDATION_SHARE = 0.1
NEW = "test_new"  # the part of test of which no copy stands in Training


def split_as_given(pictures: list[Picture]) -> dict[str, list[Picture]]:
    """Test is Testing; validation is a tenth of each class of Training, rounded down.

    Near-copy groups stay together, except where a class's count could not be met otherwise.
    """
    training = [p for p in pictures if not p.is_testing]
    train, validation = _cut_validation(training, exact=True)
    return {
        "train": train,
        "validation": validation,
        "test": [p for p in pictures if p.is_testing],
    }


def split_deduplicated(
    pictures: list[Picture],
) -> tuple[dict[str, list[Picture]], dict[str, int]]:
    """Keeps one file of each distinct picture; what stands in Testing leaves Training.

    Near-copy groups never straddle train and validation, so validation may fall short of a tenth
    by a few pictures. Testing pictures that are near, not equal, to Training ones stay. `test_new`
    holds those of test again that Training never had.

    Returns:
      (split name to pictures, reason to number of files dropped).
    """
    testing = {p.first for p in pictures if p.is_testing}
    training = {p.first for p in pictures if not p.is_testing}
    kept: dict[int, Picture] = {}
    dropped: Counter[str] = Counter()
    # Testing first: of a picture that stands in both folders the test copy is kept.
    for picture in sorted(pictures, key=lambda p: (not p.is_testing, p.filename)):
        if not picture.is_testing and picture.first in testing:
            dropped["training_copy_of_testing"] += 1
        elif picture.first in kept:
            where = "testing" if picture.is_testing else "training"
            dropped[f"{where}_copy_of_{where}"] += 1
        else:
            kept[picture.first] = picture
    train, validation = _cut_validation([p for p in kept.values() if not p.is_testing], exact=False)
    test = [p for p in kept.values() if p.is_testing]
    new = [p for p in test if p.first not in training]
    return {"train": train, "validation": validation, "test": test, NEW: new}, dict(dropped)


def _cut_validation(pictures: list[Picture], *, exact: bool) -> tuple[list[Picture], list[Picture]]:
    """(train, validation): whole groups, by a hash of the group, until each class has its share.

    With `exact` groups are split where whole ones do not give the exact count.
    """
    totals = Counter(p.label for p in pictures)
    wanted = {label: int(VALIDATION_SHARE * totals[label]) for label in range(len(LABEL_NAMES))}
    groups: dict[int, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[picture.group].append(picture)
    chosen: set[str] = set()
    # By a hash of the group, so that neither the files' names nor a generator decide.
    in_order = sorted(groups, key=lambda g: hashlib.sha256(str(g).encode()).digest())
    for group in in_order:
        counts = Counter(p.label for p in groups[group])
        if all(count <= wanted[label] for label, count in counts.items()):
            chosen.update(p.filename for p in groups[group])
            for label, count in counts.items():
                wanted[label] -= count
    if exact:
        # Splits groups, but only for what whole groups left over.
        for picture in (p for group in in_order for p in groups[group]):
            if wanted[picture.label] > 0 and picture.filename not in chosen:
                chosen.add(picture.filename)
                wanted[picture.label] -= 1
    return (
        [p for p in pictures if p.filename not in chosen],
        [p for p in pictures if p.filename in chosen],
    )
