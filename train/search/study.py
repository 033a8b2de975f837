"""The study of a sweep: where it lies, alone or shared by several machines; how it draws."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from records.ordering.order import mix64
from train.measures.metrics import SMALL_IS_GOOD
from train.search.places import place_of

_JOURNAL = "journal"
_NEVER_STOPPED_BEFORE = 4  # of the points of train.search.trial
_STARTUP_TRIALS = 10  # drawn at random before the guided ones, and never stopped early


def make_study(
    url: str, name: str, *, metric: str, sampler: str, prune: bool, seed: int
) -> optuna.Study:
    """Makes a study, or opens the one of that name; `url` is that of `_open_storage`.

    Losses and errors are made small, other metrics large. `sampler` is `tpe` or `random`; `prune`
    stops trials that are worse than the median of the others.

    Raises:
      ValueError: the storage cannot be opened.
    """
    pruner = optuna.pruners.MedianPruner(_STARTUP_TRIALS, n_warmup_steps=_NEVER_STOPPED_BEFORE)
    return optuna.create_study(
        storage=_open_storage(url),
        study_name=name,
        direction="minimize" if metric in SMALL_IS_GOOD else "maximize",
        load_if_exists=True,
        sampler=_SeededSampler(functools.partial(_make_sampler, sampler, seed)),
        pruner=pruner if prune else optuna.pruners.NopPruner(),
    )


def _make_sampler(kind: str, seed: int, place: int) -> optuna.samplers.BaseSampler:
    """A sampler whose draws depend on seed and place alone: a resumed sweep draws the same."""
    seed = mix64(seed, place) % 2**32
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=_STARTUP_TRIALS, multivariate=True, group=True
    )


class _SeededSampler(optuna.samplers.BaseSampler):
    """A sampler whose draws depend on the place of a trial, not on the worker that draws."""

    def __init__(self, make: Callable[[int], optuna.samplers.BaseSampler]):
        """`make` gives the sampler of a place, counted from 0."""
        self._make, self._inner = make, make(0)

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Begins anew."""
        self._inner = self._make(place_of(study, trial))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, *arguments: Any) -> Any:
        """As the sampler of the place does."""
        return self._inner.infer_relative_search_space(*arguments)

    def sample_relative(self, *arguments: Any) -> Any:
        """As the sampler of the place does."""
        return self._inner.sample_relative(*arguments)

    def sample_independent(self, *arguments: Any) -> Any:
        """As the sampler of the place does."""
        return self._inner.sample_independent(*arguments)

    def after_trial(self, *arguments: Any) -> None:
        """As the sampler of the place does."""
        self._inner.after_trial(*arguments)


def _open_storage(url: str) -> BaseStorage:
    """Opens a database of SQLAlchemy's, or the file of `journal:FILE`, which is made if absent.

    Raises:
      ValueError: it cannot be opened; without the passwords of `url`.
    """
    kind, _, rest = url.partition(":")
    try:
        if kind == _JOURNAL:
            return JournalStorage(JournalFileBackend(rest))
        # SQLite waits for 5 s by itself. A database server ends connections that are idle as
        # long as a trial may be: they are tried before use.
        is_file = kind.startswith("sqlite")
        options = {"connect_args": {"timeout": 60}} if is_file else {"pool_pre_ping": True}
        return RDBStorage(url, engine_kwargs=options)
    except (
        sqlalchemy.exc.SQLAlchemyError,
        ImportError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise ValueError(
            "sweep: --storage expected a database or a file that can be opened, such as "
            "postgresql://USER@HOST/NAME, sqlite:////FOLDER/FILE or journal:/FOLDER/FILE, "
            f"received one that cannot: {_describe(error, url)}"
        ) from None


@contextlib.contextmanager
def failures_named(url: str | None) -> Iterator[None]:
    """Within it a storage that fails ends the sweep with a sentence.

    Raises:
      ValueError: instead of the storage's error; without the passwords of `url`.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise ValueError(
            "sweep: the storage of the trials expected an answer, received an error: "
            f"{_describe(error, url or '')}. The same command goes on when it is back"
        ) from None


def _describe(error: BaseException, url: str) -> str:
    """The first line of an error's text, without what is secret in `url`."""
    while error.__cause__ is not None:  # Optuna's own say less
        error = error.__cause__
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    secrets = [url]
    with contextlib.suppress(sqlalchemy.exc.ArgumentError):
        parsed = sqlalchemy.make_url(url)
        secrets += [str(parsed.password or ""), *map(str, parsed.query.values())]
    if "@" in url:  # one that could not be read
        secrets.append(url.rpartition("@")[0].rpartition("/")[2].partition(":")[2])
    for secret in sorted({f(s) for s in secrets for f in (str, quote, quote_plus)}, key=len)[::-1]:
        text = text.replace(secret, "***") if secret else text
    return text
