"""Command line: checks every record of prepared sets and names the damaged ones.

    python -m records.verify DATA_DIR
    python -m records.verify DATA_DIR --leakage
    python -m records.verify DATA_DIR --repair DIR
    python -m records.verify DATA_DIR --upload s3://bucket/data

DATA_DIR holds prepared sets, or is one. The exit code is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from records.decoding.pixels import MAX_PIXELS
from records.sets.find import describe_place, is_run_folder
from records.sets.fingerprint import find_shards
from records.sets.hints import prepare_hint
from records.stores.address import is_address, parse_address, parse_output
from records.stores.flags import add_cache_flags
from records.stores.mirror import fetch_all, list_sets, mirror
from records.system.command import run_as_command, with_home
from records.system.places import check_local
from records.system.writing import check_output

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
    add_cache_flags(parser)
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
    add(
        "--upload",
        metavar="URL",
        help="copy each set that is sound to this data folder of an object store",
    )
    add("--overwrite", action="store_true", help="--upload: replace sets that are there")
    add("--feature", help="the input feature, where a set has several and names none")
    add(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="decode pictures of up to so many pixels (default: %(default)s)",
    )
    found = parser.parse_args(with_home(arguments))
    if found.max_pixels < 1:
        parser.error(f"--max-pixels expected 1 or more, received {found.max_pixels}")
    if found.overwrite and not found.upload:
        parser.error("--overwrite expected with --upload URL, received without it")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Verifies, and repairs if asked to; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _verify(options))


def _verify(options: argparse.Namespace) -> int:
    sound = True
    if options.repair:
        check_output(Path(options.repair), "verify", "--repair", is_folder=True)
    if options.upload:
        parse_output(options.upload, "--upload")
    for directory in find_sets(options.data_dir):
        # What fails with one set is told, and the next one is checked.
        try:
            sound &= _verify_one(directory, options)
        except (ValueError, OSError) as error:
            print(f"  wrong: {error}")
            sound = False
    return 0 if sound else 1


def _verify_one(directory: str, options: argparse.Namespace) -> bool:
    """Whether a set is sound."""
    from records.sets.schema import read_schema
    from records.verify.check import verify_set
    from records.verify.upload import check_free, upload_set

    address = None
    if options.upload:  # before the set is read
        address = parse_output(options.upload, "--upload") / read_schema(directory).name
        check_free(address, overwrite=options.overwrite)
    fetch_all(find_shards(Path(directory)))  # of a store
    report = verify_set(
        directory,
        content=not options.no_content,
        max_pixels=options.max_pixels,
        feature=options.feature,
    )
    print_report(report)
    _print_more(report, options)
    if address is not None:
        upload_set(directory, address, report)
    return report.is_sound


def _print_more(report: SetReport, options: argparse.Namespace) -> None:
    """Does what was asked for besides the check, as far as the set's metadata can be read."""
    from records.verify.leakage import print_leakage
    from records.verify.repair import write_repaired

    if report.schema is None:
        return
    if options.leakage:
        print_leakage(report.schema, report.scans, options.max_pixels)
    if options.repair and not report.is_sound:
        wrote = write_repaired(report.schema, report.scans, report.differing, options.repair)
        print(f"  {wrote}")
    # A sound set is not copied: the user would keep two of them.
    elif options.repair:
        print("  nothing to repair, nothing was copied")


def find_sets(data_dir: str) -> list[str]:
    """The directories of the prepared sets in a folder, or the folder itself where it is one.

    A set that has lost its dataset_info.json is one: its shards or other files tell.

    Raises:
      FileNotFoundError: there is none.
    """
    if is_address(data_dir):
        there = list_sets(address := parse_address(data_dir, "DATA_DIR"))
        if not there:
            raise FileNotFoundError(
                f"verify: {address}: expected prepared sets (folders with dataset_info.json) in "
                f"bucket {address.bucket!r}, received none"
            )
        return [mirror(address / path, there[path]) for path in sorted(there)]
    check_local(data_dir, "DATA_DIR")
    root = Path(data_dir)
    if _is_set(root) or find_shards(root):
        return [str(root)]
    # What TFDS and our builders call a folder while a build goes on, and the set it replaces.
    unfinished = ("incomplete.", "replaced.", ".")
    # Name, config, version; DATA_DIR may also be the folder of a name or of a config.
    folders = [p for pattern in ("*", "*/*", "*/*/*") for p in root.glob(pattern)]
    found = (p for p in folders if p.is_dir() and not p.name.startswith(unfinished))
    sets = sorted(str(p) for p in found if _is_set(p))
    if not sets:
        aside = sorted(str(p) for p in folders if p.name.startswith("replaced.") and _is_set(p))
        expected = f"verify: {root}: expected prepared sets (folders with dataset_info.json)"
        if aside:
            raise FileNotFoundError(
                f"{expected}, received {', '.join(aside)}, which a build with --overwrite set "
                "aside before it was cut short. Give its tfds build command again: it puts the "
                "set back, or finishes the new one"
            )
        remedy = ""
        if not root.exists() or (root.is_dir() and not is_run_folder(root)):
            remedy = f". Prepare one with: {prepare_hint('fetal_health/synthetic', root)}"
        raise FileNotFoundError(f"{expected}, received {describe_place(root)}{remedy}")
    return sets


def _is_set(folder: Path) -> bool:
    """Whether a folder is a set, or was one: it has its description, or shards below a version."""
    names = ("dataset_info.json", "features.json", "fingerprint.json")
    if any((folder / name).exists() for name in names):
        return True
    return re.fullmatch(r"\d+\.\d+\.\d+", folder.name) is not None and bool(find_shards(folder))


def print_report(report: SetReport) -> None:
    """What was checked, and everything that is wrong."""
    counts = sum(len(s.layout.offset) for scans in report.scans.values() for s in scans)
    shards = sum(map(len, report.scans.values()))
    shard = "shard" if shards == 1 else "shards"
    size, seconds = report.num_bytes / 1e6, report.seconds
    print(
        f"{report.name}: {counts:,} records in {shards} {shard}, {size:,.1f} MB in "
        f"{seconds:.2f} s ({size / max(seconds, 1e-9):,.0f} MB/s)"
    )
    if report.schema is None:
        print("  its metadata cannot be read: only the frames and CRCs of its records were checked")
    for line in report.problems:
        print(f"  wrong: {line}")
    for line in report.damage:
        print(f"  damaged: {line}")
    for line in report.notes:
        print(f"  note: {line}")
    if report.is_sound:
        print("  sound: nothing is wrong")
    else:
        lost = len(report.damage)
        print(f"  {lost:,} damaged records, {len(report.problems)} other problems")


if __name__ == "__main__":
    sys.exit(main())
