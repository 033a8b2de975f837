"""Workers that share a study: every place is filled once, by the same draws, whoever dies."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from train.search import places
from train.search.places import DRAWN, SilentTrials, beating, count_done, take
from train.search.study import failures_named, make_study

optuna.logging.set_verbosity(optuna.logging.WARNING)


def _study(url: str) -> optuna.Study:
    return make_study(url, "s", metric="loss", sampler="random", prune=False, seed=3)


def _train(study: optuna.Study, trial: optuna.Trial) -> None:
    study.tell(trial, trial.suggest_float("a", 0, 1) + trial.suggest_int("b", 0, 9))


def _results(study: optuna.Study) -> list[tuple[Any, ...]]:
    ended = study.get_trials(states=(TrialState.COMPLETE,))
    return sorted((t.value, *sorted(t.params.items())) for t in ended)


@pytest.fixture(scope="module")
def alone() -> list[tuple[Any, ...]]:
    """What one worker finds in 8 trials."""
    study = _study("sqlite://")
    while (trial := take(study, 8)) is not None:
        _train(study, trial)
    return _results(study)


@pytest.mark.parametrize("url", ["sqlite:///{}/s.db", "journal:{}/s.log"])
def test_many_workers_find_what_one_finds(url: str, alone: Any, tmp_path: Path) -> None:
    """Three at once, one of which leaves its second trial behind."""
    url = url.format(tmp_path)
    _study(url)

    def work(dies: bool) -> None:
        study, begun = _study(url), 0
        while count_done(study, 8) < 8:
            trial = take(study, 8)
            if trial is None:
                continue
            begun += 1
            if dies and begun == 2:
                trial.suggest_float("a", 0, 1)
                study.tell(trial, state=TrialState.FAIL)
                return
            _train(study, trial)

    threads = [threading.Thread(target=work, args=(i == 0,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _results(_study(url)) == alone and len(alone) == 8


def _with_a_rival(study: optuna.Study, monkeypatch: Any, rival: Callable[[], Any]) -> None:
    """Another worker acts between this one's look and its `ask`."""
    ask = study.ask

    def late() -> optuna.Trial:
        rival()
        return ask()

    monkeypatch.setattr(study, "ask", late)


def test_two_workers_at_the_last_place(alone: Any, monkeypatch: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    study, other = _study(url), _study(url)
    _with_a_rival(study, monkeypatch, lambda: _train(other, other.ask()))
    assert take(study, 1) is None
    assert len(_results(study)) == count_done(study, 1) == 1
    monkeypatch.undo()
    # The place that was one too many is the second one of a longer sweep, and draws as that.
    second = take(study, 2)
    assert second is not None
    _train(study, second)
    assert take(study, 2) is None and set(_results(study)) <= set(alone)


def test_two_workers_that_repeat_a_trial(monkeypatch: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    study, other = _study(url), _study(url)
    dead = study.ask()
    drawn = dead.suggest_float("a", 0, 1)
    dead.set_user_attr(DRAWN, {"a": drawn})
    study.tell(dead, state=TrialState.FAIL)
    taken: list[Any] = []
    _with_a_rival(study, monkeypatch, lambda: taken.append(take(other, 1)))
    assert take(study, 1) is None and taken[0].params == {"a": drawn}
    _train(other, taken[0])
    assert take(study, 1) is None and len(_results(study)) == 1


def test_a_silent_worker_loses_its_trial_and_a_living_one_does_not(
    monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(places, "BEAT_S", 0.02)
    monkeypatch.setattr(places, "SILENT_S", 0.2)
    study, silent = _study(f"journal:{tmp_path}/s.log"), SilentTrials()
    dead, living = study.ask(), study.ask()
    with beating(living):
        failed = silent.fail(study)
        while not failed:
            threading.Event().wait(0.02)
            failed = silent.fail(study)
    assert failed == [dead.number]
    # What the first worker tells after all is refused.
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        dead.set_user_attr("seconds", 1)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@127.0.0.1:1/x",
        "nothing://me:s3cret@x/y?password=s3cret",
        "me:s3cret@x",
        "journal:/proc/none/s3cret",
        "sqlite:////proc/none/s.db",
    ],
)
def test_a_storage_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(ValueError, match="sweep: --storage expected a database or") as found:
        _study(url)
    text = str(found.value).replace("/proc/none/s3cret", "")
    assert "s3cret" not in text and found.value.__cause__ is None


def test_a_storage_that_fails_later() -> None:
    url = "postgresql://me:s3cret@host/x"
    with (
        pytest.raises(ValueError, match="received an error: no .* at host") as found,
        failures_named(url),
    ):
        raise optuna.exceptions.StorageInternalError(f"no {url} or s3cret at host")
    assert "s3cret" not in str(found.value)
