"""Says which stage of the input pipeline is the slowest, why, and what a change would gain.

    python -m records.diagnose --dataset brain_tumor_mri/kaggle --data-dir data
    python -m records.diagnose --dataset brain_tumor_mri/kaggle --data-dir data --cache none --apply

The pipeline runs for some seconds. For each stage it prints the time per example, its share, how
many run at once, and the bytes that come out, beside the limit: what the bare operation (a read
of the file, one parse call, one decode, a memory copy) reaches on this machine at this moment.

| stage | what | limit |
|---|---|---|
| read | records by offset, checksums | `pread` of the same bytes |
| parse | `tf.io.parse_example`; pictures are cut out by the index | the same call alone |
| decode | pictures, padding of ids | the same call alone |
| order | which examples a batch holds | the numbers of 64 batches computed in one call |
| gather | rows of the cached split to a batch | a memory copy of the same bytes |
| consume | a sum over every byte, in place of a step | itself |
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from records.decoding.input_config import HOST_LEVELS
from records.stores.flags import add_cache_flags
from records.system.command import run_as_command, with_home

if TYPE_CHECKING:
    from records.diagnose.measure import Report


@dataclasses.dataclass(frozen=True)
class Advice:
    """A change and what it is worth."""

    text: str  # what to change, as flags where there are some
    rate: float  # predicted examples/s
    cache: str | None = None  # the level it sets, or None where it is not a setting


def advise(report: Report, warm_rate: float | None) -> list[Advice]:
    """Changes that would make the pipeline faster, best first.

    Args:
      warm_rate: examples/s from the memory cache; None where the run had a cache.
    """
    found = []
    slowest = report.bottleneck
    at_limit = report.predict({slowest.name: slowest.limit_seconds})
    # Less than 5 % lies within what two runs on one machine differ by.
    if at_limit > 1.05 * report.rate:
        found.append(Advice(f"{slowest.name} at its limit: {_REMEDIES[slowest.name]}", at_limit))
    if warm_rate is not None:
        text = "--cache memory, or disk where memory is short: decode once, then gather"
        found.append(Advice(text, warm_rate, "memory"))
    return sorted(found, key=lambda advice: -advice.rate)


_REMEDIES = {
    "read": "a faster disk or a copy on a local one; fewer, longer records",
    "parse": "fewer features per record",
    "decode": "smaller pictures at build time, a smaller --image-size, more cores, or a cache",
    "order": "larger batches",
    "gather": "smaller inputs; nothing else that uses the memory bus",
    "consume": "nothing: the input waits for who takes it",
}


def format_report(report: Report, advice: list[Advice]) -> str:
    """The table and the advice, as text."""
    lines = [
        f"{report.name}, cache {report.cache}, batches of {report.global_batch_size}: "
        f"{report.rate:,.0f} examples/s in {report.seconds:.1f} s",
        f"{'stage':10}{'us/example':>12}{'share':>8}{'at once':>9}{'MB/s':>9}{'limit us':>10}"
        f"{'of limit':>10}",
    ]
    total = sum(s.seconds for s in report.stages)
    for stage in report.stages:
        share = stage.limit_seconds / stage.seconds if stage.seconds else 1.0
        megabytes = stage.bytes * report.rate / 1e6
        mark = "  <- bottleneck" if stage is report.bottleneck else ""
        lines.append(
            f"{stage.name:10}{1e6 * stage.seconds:12.2f}{100 * stage.seconds / total:7.0f}%"
            f"{stage.seconds * report.rate:9.2f}{megabytes:9,.0f}"
            f"{1e6 * stage.limit_seconds:10.2f}{100 * min(share, 1):9.0f}%{mark}"
        )
    for one in advice:
        gain = one.rate / report.rate
        lines.append(f"predicted {gain:5.2f} x ({one.rate:,.0f} examples/s): {one.text}")
    if not advice:
        lines.append("every stage runs within 5 % of its limit: nothing to gain here")
    return "\n".join(lines)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m records.diagnose",
        description=(__doc__ or "").split("\n\n", 1)[0],
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--dataset", required=True, help="name[/config] of a prepared set, or its directory")
    add("--data-dir", help="where prepared sets lie (default: as tfds)")
    add_cache_flags(parser)
    # No `device`: a batch is then gathered in the compiled step, which does not run here.
    add("--cache", choices=HOST_LEVELS, default="none", help="what to look at (default: none)")
    add("--global-batch-size", type=int, default=64, metavar="N", help="(default: 64)")
    add("--feature", help="the input feature, where the set has several")
    add("--image-size", type=int, metavar="N", help="pictures: pixels (default: 224)")
    add("--max-pixels", type=int, metavar="N", help="pictures: at most (default: 16777216)")
    add("--seconds", type=float, default=5.0, metavar="X", help="how long to run (default: 5)")
    add("--apply", action="store_true", help="run once more with the best setting, and compare")
    found = parser.parse_args(with_home(arguments))
    if found.global_batch_size < 1 or not 0 < found.seconds < 1e6:
        parser.error("--global-batch-size and --seconds expected positive numbers")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs the pipeline and prints the report; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    return run_as_command(lambda: _diagnose(options))


def _diagnose(options: argparse.Namespace) -> None:
    from records.decoding.input_config import InputConfig
    from records.diagnose.measure import measure
    from records.roles import open_data
    from records.sets.schema import IMAGE

    shape = {"image_size": options.image_size, "max_pixels": options.max_pixels}
    shape = {name: value for name, value in shape.items() if value is not None}

    def run(cache: str) -> Report:
        sizes = InputConfig(**shape, cache=cache, feature=options.feature)
        data = open_data(options.dataset, options.data_dir, sizes)
        if shape and data.schema.modality != IMAGE:
            raise ValueError(
                "diagnose: --image-size and --max-pixels expected with pictures, received with "
                f"{data.schema.name} ({data.schema.modality}). Leave them out"
            )
        return measure(data, options.global_batch_size, options.seconds)

    report = run(options.cache)
    # Measured, not predicted: the model of stages without a cache knows no gather.
    warm = run("memory").rate if options.cache == "none" else None
    advice = advise(report, warm)
    print(format_report(report, advice))
    setting = next((one for one in advice if one.cache), None)
    if options.apply and setting and setting.cache:
        applied = run(setting.cache)
        print(
            f"\napplied --cache {setting.cache}: {applied.rate:,.0f} examples/s, "
            f"{applied.rate / report.rate:.2f} x (predicted {setting.rate / report.rate:.2f} x)"
        )
        print(format_report(applied, advise(applied, None)))
    elif options.apply:
        print("\nno setting to apply: what would help is not a flag")


if __name__ == "__main__":
    sys.exit(main())
