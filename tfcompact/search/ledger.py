"""The trials of a search, where several workers share them: an Optuna study in a file, or on a database server.

A worker takes a trial, and while it works its lease is renewed. One whose worker is gone is taken up again by the
next. No candidate is evaluated twice: a proposal that was made before gets its value, or is dropped while another
worker is at it. What a study is about is written in it, and a worker that is about something else is turned away.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.errors import UserError
from tfcompact.search.controller import Choices, Controller, Told

BEAT_S = 15.0
"""Seconds between two renewals of a lease."""
LOST_S = 120.0
"""Seconds without one after which a worker on another computer counts as gone."""
WAIT_S = 0.5
TERMS, CHOICES, PROPOSAL, LEASE = "terms", "choices", "proposal", "lease"
BEAT, FACTS, COPY = "beat", "facts", "copy_of"
OPENINGS = 5
"""Attempts to open a database: workers that begin at once make its tables at once."""


@dataclass(frozen=True)
class Taken:
    """A trial that this worker is to evaluate."""

    number: int
    choices: Choices
    trial: Any


class Ledger:
    """The study called `name`. `storage` is a URL of a database, or the path of a journal file.

    `terms` are what all workers must agree on, as JSON: space, data, table and its unit, how a candidate is trained.
    Raises `UserError` where the study has other terms, or the storage cannot be opened.
    """

    def __init__(self, storage: str, name: str, terms: Mapping[str, Any], counts: Sequence[int]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.name, self.counts = name, tuple(counts)
        self.study = _opened(storage, name)
        self._agree({name: json.loads(json.dumps(value)) for name, value in terms.items()})
        self._asked: set[int] = set()
        self._told: set[int] = set()

    def _agree(self, terms: dict[str, Any]) -> None:
        known = self.study.user_attrs.get(TERMS)
        if known is None:
            self.study.set_user_attr(TERMS, terms)
            known = self.study.user_attrs[TERMS]
        for name in sorted({*known, *terms}):
            if known.get(name) != terms.get(name):
                raise UserError(
                    f"the study {self.name} has {name} {_short(known.get(name))}, not {_short(terms.get(name))}; "
                    "give another --study, or what it has"
                )

    def take(self, controller: Controller, budget: int) -> Taken | None:
        """The next trial; None once `budget` candidates are evaluated. Waits where other workers are at the last."""
        while True:
            trials = self._trials()
            done = self.done(trials)
            if len(done) >= budget:
                return None
            if left := self._left_behind(trials):
                return self._taken(left)
            running = [t for t in trials if t.state.name == "RUNNING"]
            if len(done) + len(running) >= budget:
                time.sleep(WAIT_S)
                continue
            if found := self._proposed(controller, done):
                return found

    def done(self, trials: Sequence[Any] | None = None) -> list[Any]:
        """The evaluated trials, each candidate once, in the order in which they were finished."""
        found = [
            t
            for t in (self._trials() if trials is None else trials)
            if t.state.name == "COMPLETE" and COPY not in t.user_attrs
        ]
        return sorted(found, key=lambda t: (t.datetime_complete, t.number))

    def finish(self, taken: Taken, accuracy: float, cost: float, facts: Mapping[str, Any]) -> None:
        """Writes down what came of a trial."""
        taken.trial.set_user_attr(FACTS, dict(facts))
        self.study.tell(taken.trial, [accuracy, cost])

    def fail(self, taken: Taken) -> None:
        """Gives a trial up: it is not taken up again."""
        import optuna

        with contextlib.suppress(ValueError, RuntimeError):
            self.study.tell(taken.trial, state=optuna.trial.TrialState.FAIL)

    @contextlib.contextmanager
    def working(self, taken: Taken) -> Iterator[None]:
        """Renews the lease of a trial for the length of a `with` block."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                taken.trial.set_user_attr(BEAT, time.time())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def told(self, trial: Any, reward: float) -> Told:
        """A finished trial as a controller hears of it."""
        accuracy, cost = trial.values
        return Told(tuple(trial.user_attrs[CHOICES]), reward, accuracy, cost)

    def _trials(self) -> list[Any]:
        return list(self.study.get_trials(deepcopy=False))

    def _proposed(self, controller: Controller, done: Sequence[Any]) -> Taken | None:
        """A new candidate of the controller; None where it is known or another worker is at it."""
        trial = self.study.ask()
        number = 1 + max((t.user_attrs.get(PROPOSAL, -1) for t in self._trials()), default=-1)
        trial.set_user_attr(PROPOSAL, number)
        choices = tuple(controller.ask(number))
        self._asked.add(number)
        for other in done:
            if tuple(other.user_attrs[CHOICES]) == choices:
                trial.set_user_attr(CHOICES, choices)
                trial.set_user_attr(COPY, other.number)
                self.study.tell(trial, other.values)
                return None
        return self._mine(trial, choices)

    def _mine(self, trial: Any, choices: Choices) -> Taken | None:
        """The trial, unless an earlier one of the same candidate is under way."""
        trial.set_user_attr(LEASE, {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())})
        trial.set_user_attr(BEAT, time.time())
        trial.set_user_attr(CHOICES, choices)
        taken = Taken(trial.number, choices, trial)
        for other in self._trials():
            at_it = other.state.name in ("RUNNING", "COMPLETE") and COPY not in other.user_attrs
            if at_it and other.number < trial.number and tuple(other.user_attrs.get(CHOICES, ())) == choices:
                self.fail(taken)
                return None
        return taken

    def _left_behind(self, trials: Sequence[Any]) -> Any | None:
        """A trial whose worker is gone."""
        return next((t for t in trials if t.state.name == "RUNNING" and _is_gone(t)), None)

    def _taken(self, left: Any) -> Taken | None:
        """A trial in the place of one that was left behind; of several workers one gets it."""
        import optuna

        try:
            self.study.tell(left.number, state=optuna.trial.TrialState.FAIL)
        except (ValueError, RuntimeError):  # another worker was quicker
            return None
        if CHOICES not in left.user_attrs:  # its worker went before it knew what to do
            return None
        trial = self.study.ask()
        trial.set_user_attr(PROPOSAL, left.user_attrs[PROPOSAL])
        return self._mine(trial, tuple(left.user_attrs[CHOICES]))


def catch_up(ledger: Ledger, controller: Controller, reward: Any) -> None:
    """Tells a controller what was finished since it was told last, its proposals asked for again in their order."""
    trials = ledger._trials()
    proposed = sorted({t.user_attrs[PROPOSAL] for t in trials if PROPOSAL in t.user_attrs})
    for trial in ledger.done(trials):
        if trial.number in ledger._told:
            continue
        # Those of an earlier process, or of other workers: a controller may remember what it proposed.
        for number in [n for n in proposed if n <= trial.user_attrs[PROPOSAL] and n not in ledger._asked]:
            controller.ask(number)
            ledger._asked.add(number)
        ledger._told.add(trial.number)
        accuracy, cost = trial.values
        controller.tell(ledger.told(trial, reward(accuracy, cost)))


def _opened(storage: str, name: str) -> Any:
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    def study() -> Any:
        if "://" in storage:
            kept: Any = RDBStorage(_with_driver(storage))
        else:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            kept = JournalStorage(JournalFileBackend(storage))
        return optuna.create_study(
            storage=kept, study_name=name, directions=["maximize", "minimize"], load_if_exists=True
        )

    for _ in range(OPENINGS - 1):
        with contextlib.suppress(Exception):
            return study()
        if "://" in storage:
            time.sleep(WAIT_S)
    try:
        return study()
    except ImportError as error:
        raise UserError(f"{storage} needs a package ({error}); pip install 'tfcompact[postgresql]'") from None
    except OSError as error:
        raise UserError(f"{storage} cannot be opened ({error.strerror}); give another --storage") from None
    except Exception as error:  # of the database's own kinds, which differ
        if type(error).__module__.startswith(("sqlalchemy", "psycopg")):
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{storage} cannot be opened ({reason}); give another --storage") from None
        raise


def _with_driver(url: str) -> str:
    """PostgreSQL's URL with the driver that is a package of ours."""
    kind, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if kind in ("postgres", "postgresql") else url


def _is_gone(trial: Any) -> bool:
    """Whether the worker of a trial that is under way is there no more."""
    lease = trial.user_attrs.get(LEASE)
    if lease is None:
        started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return bool(time.time() - started > LOST_S)
    if lease["host"] == socket.gethostname():
        return bool(_born(lease["pid"]) != lease["born"])
    return bool(time.time() - float(trial.user_attrs.get(BEAT, 0.0)) > LOST_S)


def _born(pid: int) -> float | None:
    """When a process of this computer began; None where there is none of that number."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
