"""The JSON file of one run: written atomically, read back as comparisons."""

import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.timing import Sample
from records.system.json_file import read_json
from records.system.writing import write_atomically

FORMAT = 2  # of the layout that README.md in `benchmarks/results` describes


class ResultError(ValueError):
    """A file that is no result of `benchmarks.run`, or cannot be used as one."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One run."""

    file: Path  # where it was read from
    comparisons: list[Comparison]
    content: dict[str, Any]  # the JSON object as it was read

    @property
    def environment(self) -> dict[str, Any]:
        """Hardware, versions and commit."""
        return self.content["environment"]

    @property
    def hardware(self) -> tuple[Any, ...]:
        """What has to be equal for rates to be comparable: processor, GPUs, GiB of memory."""
        found = self.environment
        # Whole GiB: the system's own share of the memory differs from boot to boot.
        memory = round(found["memory_bytes"] / 2**30)
        return found["processor"], found["processors"], tuple(found["gpus"]), memory

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self.content.get("complete", True)


def read_result(file: Path) -> Result:
    """Reads what `benchmarks.run` wrote.

    Raises:
      ResultError: the file is not there, is no JSON, of another format, or lacks something.
    """
    where = f"benchmark: {file}"
    try:
        content = read_json(file)
    except OSError as error:
        raise ResultError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ResultError(f"{where} expected JSON of benchmarks.run, received: {error}") from error
    received = content.get("format") if isinstance(content, dict) else type(content).__name__
    if received != FORMAT:
        raise ResultError(
            f"{where} expected a result of benchmarks.run, format {FORMAT}, received "
            f"{received!r}; measure again: python -m benchmarks.run --output FILE"
        )
    try:
        result = Result(file, [_read_comparison(c) for c in content["comparisons"]], content)
        result.hardware  # noqa: B018 - a file without it is refused here, not later
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(
            f"{where} expected comparisons, each with `{OURS}` and another system, and the "
            f"hardware, received something else ({type(error).__name__}: {error})"
        ) from error
    return result


def _read_comparison(entry: dict[str, Any]) -> Comparison:
    samples = {
        name: [Sample(**repetition) for repetition in system["repetitions"]]
        for name, system in entry["systems"].items()
    }
    # Ratios are taken round by round: every system has equally many.
    counts = {len(repetitions) for repetitions in samples.values()}
    if OURS not in samples or len(samples) < 2 or len(counts) != 1 or counts == {0}:
        raise ValueError(f"{entry['question']}: repetitions of {list(samples)}: {counts}")
    return Comparison(
        suite=entry["suite"],
        dataset=entry["dataset"],
        question=entry["question"],
        samples=samples,
        quantity=entry["quantity"],
        note=entry.get("note", ""),
        details=entry.get("details", {}),
        goal=entry.get("goal"),
        against=Against(entry["against"]),
        beside=entry.get("beside", ""),
        is_fixed=entry.get("is_fixed", False),
    )


def write_text(file: Path, text: str) -> None:
    """Writes the file atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text.encode())
