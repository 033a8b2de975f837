"""Building a set: `tfds build` as a user runs it, into an empty folder.

| question | measured |
|---|---|
| tfds build | this project's builder, against a plain TFDS builder on the same files |
| tfds build, n cores | on n cores, against one: on one core all is done in one process |
| full texts, n cores | the same for generated lyrics in the layout of Kaggle, 250 words each |

All times are of the whole command; `details` gives the seconds until Python, TensorFlow and TFDS
were loaded, and the ratio without them. Whatever the cores, the set has the same bytes, which is
checked. Real files are taken from the folder `$SHARED_DATA`, else `../shared/data`, which holds
one folder per set; without it, the files are generated.
"""

import csv
import dataclasses
import functools
import importlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from benchmarks.measuring.child import run_child
from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import DATASETS, Effort, Work
from builders.song_lyrics import synthetic, tables
from records.sets.find import find_directory
from records.sets.fingerprint import read_fingerprint
from records.sets.schema import TABULAR

_ROOT = Path(__file__).resolve().parents[2]
_ROUNDS = 2  # at most: the full texts take 90 s a round on one core
# Cleaning has to outweigh what happens once: 4 s until TensorFlow is loaded.
_SONGS, _ARTISTS = 150_000, 4_000
_JOINED = 2  # generated lyrics in a text
_GOALS = {2: 1.7}  # of full texts
_ONE = "one process"
_PLAIN = "plain TFDS builder"


class _Variant(NamedTuple):
    """A builder on some cores: this project's, or the plain one."""

    cores: int
    plain: bool = False

    @property
    def name(self) -> str:
        """As progress shows it."""
        return _PLAIN if self.plain else f"on {self.cores} cores"


@dataclasses.dataclass
class _Builds:
    """Builds of one set's files by several variants."""

    name: str
    source: Path  # the folder of its files
    note: str  # what a reader must know of them
    samples: dict[_Variant, list[Sample]] = dataclasses.field(default_factory=dict)  # per variant
    # Per variant, of each build: `startup_seconds`, `seconds`, fingerprint `content`.
    details: dict[_Variant, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)

    def run(self, variants: list[_Variant], rounds: int, tell: Progress) -> None:
        """Builds with all variants in turn.

        Raises:
          ValueError: the bytes differ.
        """
        self.details = {one: [] for one in variants}
        systems = {one.name: functools.partial(self._build, one) for one in variants}
        found = alternate(systems, rounds, tell)
        self.samples = {one: found[one.name] for one in variants}
        _check_same_bytes(self.name, self.details)

    def _build(self, variant: _Variant) -> Sample:
        with tempfile.TemporaryDirectory(prefix="build") as data_dir:
            request = {"name": self.name, "source": str(self.source), "data_dir": data_dir}
            start = time.perf_counter()
            found = run_child("benchmarks.build.building_child", request | variant._asdict())
            found["seconds"] = time.perf_counter() - start
            dataset = f"plain_{self.name}" if variant.plain else f"{self.name}/kaggle"
            # The clock has stopped: reading the set back is not the build's time.
            directory = find_directory(dataset, data_dir)
            stored = read_fingerprint(Path(directory)) or {}
            splits = tfds.builder_from_directory(directory).info.splits.values()
        self.details[variant].append(found | {"content": stored.get("content")})
        return Sample(sum(split.num_examples for split in splits), found["seconds"])

    def compare(
        self, work: Work, question: str, ours: _Variant, other: _Variant, goal: float | None = None
    ) -> Comparison:
        """The whole commands' rates."""
        label = _PLAIN if other.plain else _ONE
        times = {
            key: np.array([(b["seconds"], b["startup_seconds"]) for b in self.details[one]])
            for key, one in ((OURS, ours), (label, other))
        }
        # Loading Python, TensorFlow and TFDS costs both sides the same, and hides the rest on small
        # sets.
        alone = {key: values[:, 0] - values[:, 1] for key, values in times.items()}
        details = {
            "startup_seconds": {key: values[:, 1].tolist() for key, values in times.items()},
            "ratio_without_startup": float(np.median(alone[label] / alone[OURS])),
            "fingerprint": self.details[ours][0]["content"],
        }
        pair = {OURS: self.samples[ours], label: self.samples[other]}
        against = Against.PEER if other.plain else Against.OURSELVES
        more: dict[str, Any] = {"note": self.note, "details": details, "goal": goal}
        return Comparison("build", work.schema.name, question, pair, against=against, **more)


def measure_builders(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """The questions about one set; none for a set that is not this project's.

    `--quick` builds tables only: loading TensorFlow takes most of it.

    Raises:
      ValueError: builds of the same files differ in their bytes.
      benchmarks.measuring.child.ChildError: a build failed.
    """
    name, config = work.schema.name.split("/")[:2]
    if name not in DATASETS or (not effort.thorough and work.schema.modality != TABULAR):
        return []
    rounds = min(_ROUNDS, effort.repetitions) if effort.thorough else 1
    every = len(os.sched_getaffinity(0))
    counts = [n for n in (2, 4) if n <= every]
    with tempfile.TemporaryDirectory(prefix="sources") as folder:
        builds = _Builds(name, *_find_source(name, config, Path(folder)))
        more = counts if effort.thorough else []
        whole, plain = _Variant(every), _Variant(every, plain=True)
        # Each once: where there are two cores, all of them are also one of `counts`.
        variants = dict.fromkeys([whole, plain, *_on_cores(more)])
        builds.run(list(variants), rounds, lambda text: progress(f"build: {text}"))
        found = [builds.compare(work, "tfds build", whole, plain)]
        for n in more:
            question = f"tfds build, {n} cores"
            found.append(builds.compare(work, question, _Variant(n), _Variant(1)))
    if name == "song_lyrics" and more:
        with tempfile.TemporaryDirectory(prefix="sources") as folder:
            progress("build: writing full texts")
            words = _write_full_texts(Path(folder), _SONGS)
            note = f"generated lyrics of {words:.0f} words on average"
            builds = _Builds(name, Path(folder), note)
            builds.run(_on_cores(more), rounds, lambda text: progress(f"full texts: {text}"))
            for n in more:
                pair, question = (_Variant(n), _Variant(1)), f"full texts, {n} cores"
                found.append(builds.compare(work, question, *pair, _GOALS.get(n)))
    return found


def _on_cores(counts: list[int]) -> list[_Variant]:
    """Our builder on so many cores, and on one."""
    return [_Variant(n) for n in [1, *counts]] if counts else []


def _find_source(name: str, config: str, folder: Path) -> tuple[Path, str]:
    """(the folder of the real files, or of generated ones written into `folder`, a note)."""
    shared = Path(os.environ.get("SHARED_DATA") or _ROOT.parent / "shared" / "data") / name
    if config == "kaggle" and shared.is_dir():
        return shared.resolve(), "plain TFDS: no checks, copies, cleaning, index, fingerprint"
    module = importlib.import_module(f"builders.{name}.synthetic")
    write = {
        "fetal_health": "write_csv",
        "brain_tumor_mri": "write_pictures",
        "song_lyrics": "write_tables",
    }
    getattr(module, write[name])(folder)
    return folder, "generated files; plain TFDS: no checks, copies, cleaning, index, fingerprint"


def _write_full_texts(folder: Path, songs: int) -> float:
    """Writes the two files of the lyrics with several generated texts in each; mean words."""
    synthetic.write_tables(folder, songs, _ARTISTS)
    file = folder / tables.LYRICS_FILE
    with file.open(newline="", encoding="utf-8") as opened:
        header, *rows = csv.reader(opened)
    text, words = header.index("Lyric"), 0
    # Each song gets the text of the next one added: the same words, in texts of full length.
    for row, *others in zip(rows, *(rows[i:] + rows[:i] for i in range(1, _JOINED))):
        row[text] = "\n\n".join([row[text], *(other[text] for other in others)])
        words += len(row[text].split())
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, lineterminator="\n").writerows([header, *rows])
    return words / len(rows)


def _check_same_bytes(name: str, details: dict[_Variant, list[dict[str, Any]]]) -> None:
    # A plain builder keeps no fingerprint.
    contents = {b["content"] for one, found in details.items() if not one.plain for b in found}
    if len(contents) != 1:
        raise ValueError(
            f"benchmark: {name}: builds on different cores expected the same bytes, "
            f"received fingerprints {sorted(map(str, contents))}"
        )
