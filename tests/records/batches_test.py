"""Arguments of `make_dataset`, `make_arrays` and `open_data` are checked before data are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import records
from records.ordering.order import Order
from records.roles import Fold

WRONG = [
    ({"global_batch_size": 0}, "global_batch_size expected a whole number from 1 to .* received 0"),
    ({"global_batch_size": 2.5}, "global_batch_size expected a whole number .* received 2.5"),
    ({"global_batch_size": True}, "global_batch_size expected a whole number .* received True"),
    ({"seed": "a"}, "seed expected a whole number .* received 'a'"),
    ({"seed": 2**64}, "seed expected a whole number from -9,223,372,036,854,775,808 to"),
    ({"shuffle_block": -1}, "shuffle_block expected a whole number from 1"),
    ({"length_buckets": 0}, "length_buckets expected a whole number from 1"),
    ({"shuffle": "no"}, "shuffle expected True, False or None, received 'no'"),
    ({"pad": 1}, "pad expected True or False, received 1"),
    ({"role": 3}, "role expected train, validation or another split of the set, received 3"),
    ({"data_dir": 3}, "data_dir expected a folder or None, received 3"),
    ({"config": {"image_size": 3}}, "config expected an InputConfig or None, received {"),
    (
        {"dataset": 3},
        "dataset expected the name of a set, its path, or shares of several, received 3",
    ),
]


@pytest.mark.parametrize(("argument", "expected"), WRONG)
def test_an_argument_is_checked_at_the_door(argument: dict[str, Any], expected: str) -> None:
    for make in (records.make_dataset, records.make_arrays):
        with pytest.raises(ValueError, match=f"^input: {expected}"):
            make(**({"dataset": "nothing"} | argument))


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ({"epochs": 1.5}, "epochs expected a whole number from 0"),
        ({"start": 3}, r"start expected \(epoch, step\), received 3"),
        ({"start": (1,)}, r"start expected \(epoch, step\), received \(1,\)"),
        ({"start": (0, -1)}, "start expected a whole number from 0"),
    ],
)
def test_where_arrays_begin_and_end(argument: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^input: {expected}"):
        records.make_arrays("nothing", **argument)
    with pytest.raises(ValueError, match="^input: first_epoch expected a whole number from 0"):
        records.make_dataset("nothing", first_epoch=-1)


def test_sizes_and_folds() -> None:
    for name in ("image_size", "sequence_length", "vocab_size", "max_pixels"):
        for value in (0, -3, 2.5, "9", None):
            fields: dict[str, Any] = {name: value}
            with pytest.raises(ValueError, match=f"^input: {name} expected a whole number from"):
                records.InputConfig(**fields)
    assert records.InputConfig(image_size=np.int64(9)).image_size == 9  # type: ignore[arg-type]
    for number, count in ((0, 1), (3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="^input: folds? expected a whole number"):
            Fold(number, count)


def test_an_opened_set_has_its_own_config(synthetic_data_dir: Any) -> None:
    data = records.open_data(synthetic_data_dir / "fetal_health" / "synthetic" / "1.0.0")
    with pytest.raises(ValueError, match="^input: data_dir and config expected with the name"):
        records.make_dataset(data, config=records.InputConfig())
    steps = len(records.make_dataset(data))
    said = f"^input: the step of start expected a whole number from 0 to {steps - 1}, received"
    with pytest.raises(ValueError, match=said):
        records.make_arrays(data, start=(0, steps))


def test_a_negative_seed_names_an_order_of_its_own() -> None:
    orders = [Order(100, 100, seed).examples(0, 0)[0].tolist() for seed in (-1, 1, 2**63 - 1)]
    assert all(sorted(*order) == list(range(100)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_public_names_are_listed() -> None:
    assert {"make_dataset", "make_arrays", "open_data", "InputConfig"} <= set(dir(records))


def test_unknown_names_are_refused_with_the_valid_ones(synthetic_data_dir: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no prepared set 'nothing'.*tfds build"):
        records.open_data("nothing", str(synthetic_data_dir))
    with pytest.raises(ValueError, match=r"split expected one of \['test', 'train'\]"):
        records.make_dataset("fetal_health/synthetic", "dev", data_dir=str(synthetic_data_dir))
    with pytest.raises(ValueError, match=r"input feature expected one of .*received 'label'"):
        config = records.InputConfig(feature="label")
        records.open_data("fetal_health/synthetic", str(synthetic_data_dir), config)
