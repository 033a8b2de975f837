"""Command line: checks every record of prepared sets and names the damaged ones.

    python -m records.verify DATA_DIR
    python -m records.verify DATA_DIR --leakage
    python -m records.verify DATA_DIR --repair DIR

DATA_DIR holds prepared sets, or is one. The exit code is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from records.system.command import run_as_command
from records.system.places import check_local

if TYPE_CHECKING:
    from records.verify.check import SetReport


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m records.verify",
        description="Checks every record of prepared sets: framing, both CRCs, content against the "
        "schema, counts, classes, pictures, ids, fingerprint. Names each damaged record.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("data_dir", metavar="DATA_DIR", help="a folder of prepared sets, or one set's own")
    add(
        "--no-content",
        action="store_true",
        help="framing, CRCs, counts and fingerprint only, at the speed of the disk: no parsing, no "
        "decoding of pictures",
    )
    add(
        "--leakage",
        action="store_true",
        help="also count exact and near copies across splits, and list them",
    )
    add(
        "--repair",
        metavar="DIR",
        help="write a copy of each damaged set, without the damaged records, to this data folder",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Verifies, and repairs if asked to; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _verify(options))


def _verify(options: argparse.Namespace) -> int:
    from records.verify.check import verify_set
    from records.verify.leakage import print_leakage
    from records.verify.repair import write_repaired

    sound = True
    for directory in find_sets(options.data_dir):
        report = verify_set(directory, content=not options.no_content)
        print_report(report)
        sound &= report.is_sound
        if options.leakage:
            print_leakage(report.schema, report.scans)
        if options.repair and not report.is_sound:
            print(f"  {write_repaired(report.schema, report.scans, options.repair)}")
        # A sound set is not copied: the user would keep two of them.
        elif options.repair:
            print("  nothing to repair, nothing was copied")
    return 0 if sound else 1


def find_sets(data_dir: str) -> list[str]:
    """The directories of the prepared sets in a folder, or the folder itself where it is one.

    Raises:
      FileNotFoundError: there is none.
    """
    check_local(data_dir, "DATA_DIR")
    root = Path(data_dir)
    if (root / "dataset_info.json").exists():
        return [str(root)]
    patterns = ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
    found = {p.parent for pattern in patterns for p in root.glob(pattern)}
    # What TFDS and our builders call a folder while a build goes on, and the set it replaces.
    unfinished = ("incomplete.", "replaced.", ".")
    sets = sorted(str(p) for p in found if not p.name.startswith(unfinished))
    if not sets:
        raise FileNotFoundError(
            f"verify: {root}: expected prepared sets (folders with dataset_info.json), "
            f"received {'none' if root.is_dir() else 'no such folder'}. Prepare one with: "
            f"tfds build builders/fetal_health --config synthetic --data_dir {root}"
        )
    return sets


def print_report(report: SetReport) -> None:
    """What was checked, and everything that is wrong."""
    counts = sum(len(s.layout.offset) for scans in report.scans.values() for s in scans)
    shards = sum(map(len, report.scans.values()))
    size, seconds = report.num_bytes / 1e6, report.seconds
    print(
        f"{report.schema.name}: {counts:,} records in {shards} shards, {size:,.1f} MB in "
        f"{seconds:.2f} s ({size / seconds:,.0f} MB/s)"
    )
    for line in report.problems:
        print(f"  wrong: {line}")
    for line in report.damage:
        print(f"  damaged: {line}")
    if report.is_sound:
        print("  sound: nothing is wrong")
    else:
        lost = len(report.damage)
        print(f"  {lost:,} damaged records, {len(report.problems)} other problems")


if __name__ == "__main__":
    sys.exit(main())
