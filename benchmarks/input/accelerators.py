"""How busy does this host keep accelerators? Emulated ones, which take batches and time.

| question | measured |
|---|---|
| warm | epochs from memory, the cache filled before; making the iterator is within the time |
| cold | an epoch, from opening the set on; every epoch decodes, nothing is kept; page cache full |
| emulator | a producer of known delay: the time that it takes against the time measured |

Ratio = accelerator utilisation, AU (`benchmarks.input.emulator`), the first step included. Every
batch is read to its last byte on the host before its accelerator has it, in place of the copy
there, which MLPerf Storage leaves out. An epoch's last batch is a step like the others: it is
padded.
"""

import dataclasses
import functools
from collections.abc import Callable

from benchmarks.input.accelerator_rates import (
    A100_B0,
    ACCELERATOR_BATCH,
    H100_B0,
    KINDS,
    Kind,
    asked_kinds,
)
from benchmarks.input.emulator import Utilisation, known_delay, run_known_delay
from benchmarks.input.feeding import Capacity, Host, Make, median_of
from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.timing import Progress, Sample, alternate
from benchmarks.measuring.work import Effort, Work
from benchmarks.peers import tfds_reader
from records.sets.schema import IMAGE
from records.system.threads import num_threads

_ALONE, _TUNED = "accelerator alone", "tfds tuned"
# What this project promises itself, of H100 and EfficientNet-B0 from the filled cache.
_EPOCHS, _GOAL = 20, 0.99
_LEAST_STEPS = 8  # of the others: one epoch, or several of a small set
_QUICK_KINDS = (A100_B0, H100_B0)
_DELAYS = ((0.01, 0.02), (0.02, 0.01))  # seconds of a step, seconds until the next batch
_DELAYED_STEPS, _EMULATOR_GOAL = 10, 0.97


def measure_accelerators(work: Work, effort: Effort, progress: Progress) -> list[Comparison]:
    """Emulates accelerators; for vectors and texts only those of `effort.step_ms`.

    Raises:
      ValueError: the emulated accelerator is faster than it says.
    """
    kinds = asked_kinds(effort.step_ms)
    if work.schema.modality == IMAGE:
        kinds = (*(KINDS if effort.thorough else _QUICK_KINDS), *kinds)
    if not kinds:
        return []

    def tell(text: str) -> None:
        progress(f"accelerators, {text}")

    found = [_check_emulator(work, effort, step, delay) for step, delay in _DELAYS]
    tell("filling the cache")
    host = Host(dataclasses.replace(work, global_batch_size=ACCELERATOR_BATCH), effort)
    found += _measure_kinds(host, kinds, "warm", tell)
    if not effort.thorough:  # a cold epoch takes seconds, and one accelerator waits like the other
        kinds = tuple(kind for kind in kinds if kind != H100_B0)
    return found + _measure_kinds(host, kinds, "cold", tell)


def _check_emulator(work: Work, effort: Effort, step: float, delay: float) -> Comparison:
    """The emulator against the arithmetic: AU = X / max(X, d) but for the first batch."""
    expected = known_delay(step, delay, _DELAYED_STEPS)
    systems: dict[str, Callable[[], Sample]] = {
        OURS: lambda: Sample(
            _DELAYED_STEPS, run_known_delay(step, delay, _DELAYED_STEPS).seconds, delay
        ),
        "expected": lambda: Sample(_DELAYED_STEPS, expected, delay),
    }
    return Comparison(
        "accelerators",
        work.schema.name,
        f"emulator, {1000 * step:g} ms a step, a batch every {1000 * delay:g} ms",
        alternate(systems, effort.repetitions),
        note=f"an AU of {_DELAYED_STEPS * step / expected:.3f} is expected",
        details={"step_ms": 1000 * step, "delay_ms": 1000 * delay, "steps": _DELAYED_STEPS},
        goal=_EMULATOR_GOAL,
        against=Against.OURSELVES,
        is_fixed=True,
    )


def _measure_kinds(
    host: Host, kinds: tuple[Kind, ...], cache: str, progress: Progress
) -> list[Comparison]:
    """Epochs with one accelerator of each kind, then how many of them can be fed."""
    make = functools.partial(host.make, cache)
    few = -(-_LEAST_STEPS // host.work.steps_per_epoch)
    epochs = {k: _EPOCHS if _is_promise(host, k, cache) else few for k in kinds}
    systems = {k.name: functools.partial(host.sample, make, k, epochs[k]) for k in kinds}
    if cache == "warm" and H100_B0 in kinds:
        progress(f"warm, {_TUNED}, filling its cache")
        systems[_TUNED] = functools.partial(
            host.sample, _fill_tuned(host.work), H100_B0, epochs[H100_B0]
        )
    # They last as long as training does: three where other questions take five.
    repetitions = max(1, host.effort.repetitions * 3 // 5)
    samples = alternate(systems, repetitions, lambda text: progress(f"{cache}: {text}"))
    capacity = Capacity(host, cache, samples, progress)
    used = {
        k: _utilisations(samples[k.name], k, epochs[k] * host.work.steps_per_epoch) for k in kinds
    }
    # The fastest first: its trials are short, and show the others where to begin.
    fed = {k: capacity.fed(k, used[k]) for k in sorted(kinds, key=lambda k: -k.rate)}
    found = []
    for kind in kinds:
        one = _answer(host.work, kind, cache, samples[kind.name], used[kind], fed[kind])
        if _is_promise(host, kind, cache):
            one = dataclasses.replace(one, question=f"{one.question}, {_EPOCHS} epochs", goal=_GOAL)
        found.append(one)
        if kind == H100_B0 and _TUNED in samples:
            found.append(_answer_tuned(one, samples[_TUNED], kind, used[kind][0].steps))
    return found


def _is_promise(host: Host, kind: Kind, cache: str) -> bool:
    return kind == H100_B0 and cache == "warm" and host.effort.thorough


def _fill_tuned(work: Work) -> Make:
    """New iterators of the tuned peer, whose dataset has filled its cache."""
    dataset = tfds_reader.make_tuned(work, endless=True)
    batches = iter(dataset)
    for _ in range(work.steps_per_epoch + 1):  # it is whole when its end was seen
        next(batches)
    return dataset.__iter__


def _utilisations(samples: list[Sample], kind: Kind, steps: int) -> list[Utilisation]:
    return [
        Utilisation(steps, kind.step_seconds, s.seconds, s.first_batch_seconds or 0.0)
        for s in samples
    ]


def _answer(
    work: Work,
    kind: Kind,
    cache: str,
    samples: list[Sample],
    used: list[Utilisation],
    fed: dict[float, float],
) -> Comparison:
    cores = num_threads()
    many = {least: f"{n:.0f}" if n >= 1 else f"{n:.2f}" for least, n in fed.items()}
    note = (
        f"AU without the first step {median_of(used, 'au_excluding_first'):.1%}; feeds {many[0.9]} "
    )
    note += f"at AU >= 90 %, {many[0.99]} at AU >= 99 %"
    if fed[0.9] < 1 or cache == "cold":
        note += f"; {fed[0.9] / cores:.2f} per core at AU >= 90 %"
    details = dataclasses.asdict(kind) | {
        "step_ms": 1000 * kind.step_seconds,
        "global_batch_size": ACCELERATOR_BATCH,
        "input": [work.input_dtype, *work.input_shape],
        "cache": cache,
        "steps": used[0].steps,
        "au": median_of(used, "au"),
        "au_excluding_first": median_of(used, "au_excluding_first"),
        "accelerators_at_90": fed[0.9],
        "accelerators_at_99": fed[0.99],
        "accelerators_at_90_per_core": fed[0.9] / cores,
        "processors": cores,
    }
    # Alone an accelerator never waits, so that the ratio of ours to it is the AU.
    alone = [Sample(s.examples, u.compute_seconds) for s, u in zip(samples, used, strict=True)]
    return Comparison(
        "accelerators",
        work.schema.name,
        f"{cache}, {kind.name}",
        {OURS: samples, _ALONE: alone},
        note=note,
        details=details,
        against=Against.LIMIT,
        is_fixed=True,
    )


def _answer_tuned(ours: Comparison, samples: list[Sample], kind: Kind, steps: int) -> Comparison:
    """The tuned peer before the same accelerator; its last batch of an epoch is not padded."""
    used = _utilisations(samples, kind, steps)
    au, rest = median_of(used, "au"), median_of(used, "au_excluding_first")
    return Comparison(
        ours.suite,
        ours.dataset,
        ours.question,
        {OURS: ours.samples[OURS], _TUNED: samples},
        note=f"AU of {_TUNED} {au:.1%}, without the first step {rest:.1%}",
        details=dataclasses.asdict(kind)
        | {"step_ms": 1000 * kind.step_seconds, "cache": "warm", "steps": steps}
        | {"au": au, "au_excluding_first": rest},
        beside=_TUNED,
    )
