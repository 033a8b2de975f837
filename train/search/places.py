"""Which trial a worker takes next, where one worker or many draw from a study.

A sweep of N trials has N places: the first N trials of the study that repeat no other. A trial
whose worker died has failed, and another with the same settings repeats it in its place. Trials
have numbers that the storage gives once, so all workers see the same places without a lock.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator

import optuna
from optuna.trial import TrialState

BEAT_S = 5.0
SILENT_S = 60.0  # a step that is compiled may hold up the beats for some seconds
DRAWN = "drawn"  # what of the settings was drawn, once all is
_BEATS, _REPEATS = "beats", "repeats"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

Tries = list[optuna.trial.FrozenTrial]


def _places(study: optuna.Study) -> list[Tries]:
    """The tries of every place, the first one first."""
    found: dict[int, Tries] = {}
    for trial in sorted(study.get_trials(deepcopy=False), key=lambda t: t.number):
        found.setdefault(trial.user_attrs.get(_REPEATS, trial.number), []).append(trial)
    return list(found.values())


def place_of(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> int:
    """The number of a trial's place, from 0."""
    first = trial.user_attrs.get(_REPEATS, trial.number)
    return [tries[0].number for tries in _places(study)].index(first)


def count_done(study: optuna.Study, trials: int) -> int:
    """How many of the first `trials` places have ended: complete, or stopped."""
    return sum(any(t.state in _ENDED for t in tries) for tries in _places(study)[:trials])


def take(study: optuna.Study, trials: int) -> optuna.Trial | None:
    """A trial for this worker; None where others are at work on all that is left, or were faster.

    It may have been begun before, and then has the settings that were drawn for it.
    """
    places = _places(study)[:trials]
    for tries in places:
        if all(t.state == TrialState.FAIL for t in tries):
            _repeat(study, tries)
    free = TrialState.FAIL, TrialState.WAITING
    if len(places) == trials and not any(all(t.state in free for t in p) for p in places):
        return None
    trial = study.ask()
    # Two workers may take the last place, or repeat the same trial: the lower number stays.
    mine = next((p for p in _places(study)[:trials] if trial.number in {t.number for t in p}), [])
    earlier = [t.state for t in mine if t.number < trial.number]
    if not mine or any(state != TrialState.FAIL for state in earlier):
        study.tell(trial, state=TrialState.FAIL)
        return None
    return trial


def _repeat(study: optuna.Study, tries: Tries) -> None:
    """Offers a trial again, with what was drawn for it.

    All of it or nothing: a sampler that draws the second half alone draws another one.
    """
    drawn = [t for t in tries if DRAWN in t.user_attrs][-1:]
    again = optuna.create_trial(
        state=TrialState.WAITING,
        params=drawn[0].params if drawn else {},
        distributions=drawn[0].distributions if drawn else {},
        user_attrs={_REPEATS: tries[0].number},
    )
    study.add_trial(again)


def fail_running(study: optuna.Study) -> None:
    """Takes all trials for failed that seem to run: no other worker is there."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


class SilentTrials:
    """Finds trials whose worker is gone: their beats have not changed for a while.

    By this worker's clock alone: those of other hosts may differ.
    """

    def __init__(self) -> None:
        """Knows of no trial yet."""
        self._seen: dict[int, tuple[int, float]] = {}

    def fail(self, study: optuna.Study) -> list[int]:
        """Takes them for failed; returns their numbers."""
        now, found = time.monotonic(), []
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            beats = trial.user_attrs.get(_BEATS, 0)
            before, since = self._seen.get(trial.number, (None, now))
            if before != beats:
                self._seen[trial.number] = beats, now
            elif now - since > SILENT_S:
                with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                    found.append(trial.number)
        return found


@contextlib.contextmanager
def beating(trial: optuna.Trial) -> Iterator[None]:
    """Shows the other workers within it that this one lives."""
    stop = threading.Event()
    trial.set_user_attr(_BEATS, 0)

    def beat() -> None:
        for beats in itertools.count(1):
            if stop.wait(BEAT_S):
                return
            # A storage that is away for a while; where it stays away, the trial itself fails.
            with contextlib.suppress(Exception):
                trial.set_user_attr(_BEATS, beats)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
