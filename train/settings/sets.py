"""The value of `--dataset`: one set, or several with their shares of every batch."""

from collections.abc import Callable

from records.ordering.mixture import whole_shares

# What is done with one set alone.
OF_ONE_SET = ("folds", "data_service", "shuffle_block", "length_buckets", "manual_dir")

AnySet = str | tuple[str, ...]


def read_sets(dataset: AnySet) -> dict[str, str]:
    """The sets by name or path, each with its share as it was written; one has the share "1".

    Raises:
      ValueError: several without shares, or a set twice.
    """
    if isinstance(dataset, str):
        return {dataset: "1"}
    found = {name: share for name, _, share in (text.rpartition("=") for text in dataset)}
    if "" in found or len(found) < len(dataset):
        raise ValueError(
            "settings: --dataset expected one set, or several different ones with a share each, "
            f"NAME=SHARE, such as a=0.7 b=0.3; received {' '.join(dataset)}"
        )
    return found


def shares_of(dataset: AnySet) -> tuple[int, ...]:
    """Their shares, as `Mixture.shares`.

    Raises:
      ValueError: shares that cannot be.
    """
    return whole_shares(list(read_sets(dataset).values()))


def rename_sets(dataset: AnySet, rename: Callable[[str], str]) -> AnySet:
    """The same with other names."""
    if isinstance(dataset, str):
        return rename(dataset)
    return tuple(f"{rename(name)}={share}" for name, share in read_sets(dataset).items())


def folder_name(dataset: AnySet) -> str:
    """A part of a folder's name."""
    names = (dataset,) if isinstance(dataset, str) else dataset
    return "+".join(name.strip("/").replace("/", "-") for name in names)
