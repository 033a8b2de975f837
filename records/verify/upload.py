"""A sound set goes into a store, `dataset_info.json` last: without it nobody takes it for one."""

from pathlib import Path

from records.stores.address import Address
from records.stores.client import list_folder
from records.stores.mirror import INFO
from records.stores.upload import replace_all, write_all
from records.verify.check import SetReport, verify_set

_DEFAULT_CONFIG = ".config/metadata.json"  # of TFDS, beside the configs


def check_free(address: Address, *, overwrite: bool) -> None:
    """Raises ValueError where a set lies at an address that is not to be replaced."""
    if not overwrite and INFO in list_folder(address)[1]:
        raise ValueError(
            f"store: {address}: expected no set, received one. --overwrite replaces it, which ends "
            "the runs that read it; or give the new one another version"
        )


def upload_set(directory: str | Path, address: Address, report: SetReport | None = None) -> None:
    """Writes a set to an address, in place of what is there; without a report it checks it first.

    Raises:
      ValueError: the set is not sound, and nothing was written.
      StoreError: a file is not taken; what is there then is no set.
    """
    report = report or verify_set(str(directory))
    if not report.is_sound:
        wrong = [*report.problems, *report.damage]
        raise ValueError(
            f"store: {address}: expected a sound set, received {directory}: {wrong[0]} "
            f"({len(wrong):,} findings). Nothing was uploaded. All of them: python -m "
            f"records.verify {directory}"
        )
    files = {p.name: p for p in Path(directory).iterdir() if p.is_file() and p.name[0] != "."}
    replace_all(address, files, INFO, f"upload of {report.name}")
    root = Path(directory).resolve().parents[1]
    if report.name.count("/") == 2 and (root / _DEFAULT_CONFIG).is_file():
        parts = address.key.split("/")
        write_all(
            Address(address.scheme, address.bucket, "/".join(parts[:-2])),
            {_DEFAULT_CONFIG: root / _DEFAULT_CONFIG},
        )
    print(f"uploaded: {address}, {len(files):,} files", flush=True)
