"""Other libraries, each in an environment of its own, and limits: pictures, tables and texts.

| question | what is timed |
|---|---|
| cold | an epoch with decoding, parsing or tokenising, nothing kept, from a loader that is ready: |
| | set or files are open, its own format was written before |
| warm | a later epoch, with what the library itself keeps; one that keeps nothing: as cold |
| step loop | as warm; ours inside one compiled loop, from its device cache |

All take turns in the same rounds; while one computes the others are idle. Every byte of every
batch is read, and what each peer delivers is checked before its time is taken.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.input.external import Peer, is_installed
from benchmarks.input.library_list import COLD, LIBRARIES, LOOPED, WARM, Library
from benchmarks.input.peer_files import write_files
from benchmarks.input.readers import iterated, looped_ours, make_ours, open_examples, read_epoch
from benchmarks.measuring.child import ChildError
from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.equal_work import check_equal, check_labels, read_expected
from benchmarks.measuring.timing import Progress, Sample, alternate, fitting_count, whole_epochs
from benchmarks.measuring.work import Effort, Work, shortened
from records.pipeline import make_arrays

_KEEPS_NOTHING = "it keeps nothing: every epoch of it is as its cold one"


def measure_libraries(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Compares with every installed library that reads such inputs; names those left out, and why.

    A peer that fails, or delivers other work, is named and does not spoil the rows of the others.

    Raises:
      ValueError: ours deliver other examples than the set holds.
    """
    installed = _choose(work.schema.modality, effort)
    if not installed:
        return []
    with contextlib.ExitStack() as stack:
        # Before files are written: the others get the same examples as ours.
        work = stack.enter_context(shortened(work, effort))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers")))
        progress("peers: writing files for them")
        request = write_files(work, folder)
        running = _start(installed, request, folder, stack)
        progress("peers: checking that all deliver the same")
        expected = read_expected(work, folder, make_ours)
        peers = {}
        for library, peer in running.items():
            progress(f"peers, starting and checking: {library.name}")
            with _named_failure(library, effort):
                peer.wait_until_ready()
                peers[library] = _CheckedPeer(work, library, peer, expected, effort)
        return _compare(work, peers, effort, progress)


def _choose(modality: str, effort: Effort) -> list[Library]:
    """The wanted and installed ones; of quick runs one way of each library."""
    found = [x for x in LIBRARIES if modality in x.modalities]
    if effort.peers is not None:
        found = [x for x in found if x.file in effort.peers]
    if not effort.thorough:
        # Reversed, so that of several ways of one library the first in the list stays.
        found = list({x.file: x for x in reversed(found)}.values())[::-1]
    for library in found:
        if not is_installed(library.file):
            effort.skipped.append(f"{library.name}: not installed (make peers)")
    return [x for x in found if is_installed(x.file)]


def _start(
    libraries: list[Library], request: dict[str, Any], folder: Path, stack: contextlib.ExitStack
) -> dict[Library, Peer]:
    """All at once: importing and converting keeps a processor busy for seconds each."""
    started = {}
    for number, library in enumerate(libraries):
        asked = library.request(request, folder / f"scratch-{number}")
        started[library] = stack.enter_context(Peer(library.file, asked))
    return started


@contextlib.contextmanager
def _named_failure(library: Library, effort: Effort) -> Iterator[None]:
    try:
        yield
    except (ChildError, ValueError) as error:
        effort.skipped.append(f"{library.name}: failed: {error}")


class _CheckedPeer:
    """A checked peer: one call is one repetition."""

    def __init__(
        self,
        work: Work,
        library: Library,
        peer: Peer,
        expected: tuple[np.ndarray, np.ndarray],
        effort: Effort,
    ):
        """Checks it, which warms it up, and measures how many epochs last some seconds."""
        self.library, self.peer = library, peer
        self.failed = False  # it ended since
        self._effort = effort
        inputs, labels = peer.deliver()
        self.found: dict[str, Any] = {}  # what the check measured
        if library.against is Against.LIMIT:
            check_labels(library.name, labels, expected[1])
        else:
            self.found = check_equal(library.name, inputs, labels, expected, library.psnr)
        self.epochs = fitting_count(peer.run().seconds, effort.seconds / 2)

    def __call__(self) -> Sample:
        sample = Sample(1, 1.0)  # of a failed one; `_compare` leaves it out
        if not self.failed:
            # Until it has answered: after an error it stays so, and has no further turn.
            self.failed = True
            with _named_failure(self.library, self._effort):
                sample = self.peer.run(self.epochs)
                self.failed = False
        return sample


def _compare(
    work: Work, peers: dict[Library, _CheckedPeer], effort: Effort, progress: Progress
) -> list[Comparison]:
    """One comparison per question and library, from one set of rounds of all."""
    asked = dict.fromkeys(question for library in peers for question in library.goals)
    seconds = effort.seconds / 2
    ours: dict[str, Callable[[], Sample]] = {}
    for question in asked:
        progress(f"peers, warming up: {OURS}, {question}")
        if question == COLD:
            ours[question] = _decoded_each_time(work, seconds)
        else:
            looped = question == LOOPED
            consume = looped_ours(work) if looped else iterated(work, make_ours(work, endless=True))
            consume(1)  # decodes, compiles
            ours[question] = whole_epochs(consume, work.num_examples, seconds, drain=True)
    systems = {f"{OURS}, {question}": run for question, run in ours.items()}
    systems |= {library.name: turn for library, turn in peers.items()}
    samples = alternate(systems, effort.repetitions, lambda text: progress(f"peers: {text}"))
    found = []
    for question in asked:
        for library, turn in peers.items():
            if question in library.goals and not turn.failed:
                pair = {OURS: samples[f"{OURS}, {question}"], library.name: samples[library.name]}
                found.append(_answer(work, question, library, turn, pair))
    return found


def _answer(
    work: Work,
    question: str,
    library: Library,
    turn: _CheckedPeer,
    samples: dict[str, list[Sample]],
) -> Comparison:
    # One that answers both questions by the same samples, and so is as slow in later epochs.
    keeps_nothing = question == WARM and COLD in library.goals
    notes = [library.note, _KEEPS_NOTHING * keeps_nothing]
    return Comparison(
        "peers",
        work.schema.name,
        question,
        samples,
        against=library.against,
        beside=library.name,
        note="; ".join(note for note in notes if note),
        details={
            "peer": library.file,
            "versions": turn.peer.versions,
            "request": library.changes,
            "check": turn.found,
            "global_batch_size": work.global_batch_size,
            "input": [work.input_dtype, *work.input_shape],
            "examples": work.num_examples,
            "split": work.split,
            "fingerprint": work.fingerprint,
            "epochs_per_repetition": turn.epochs,
        },
        goal=library.goals[question],
    )


def _decoded_each_time(work: Work, seconds: float) -> Callable[[], Sample]:
    """Ours, cold: without a cache, because the others keep nothing of this epoch, either."""
    opened = open_examples(work, cache="none")

    def epoch() -> Sample:
        return read_epoch(work, lambda _: make_arrays(*opened))

    # Cold is about decoding: imports and tracing happen once in a training, whatever its length.
    epoch()  # traces
    count = fitting_count(epoch().seconds, seconds)

    def run() -> Sample:
        epochs = [epoch() for _ in range(count)]
        total = sum(sample.seconds for sample in epochs)
        return Sample(count * work.num_examples, total, epochs[0].first_batch_seconds)

    return run
