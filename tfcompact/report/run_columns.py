"""What is told of a run: the columns of `tfcompact runs`. No TensorFlow here."""

from __future__ import annotations

import datetime

from tfcompact.report.table_columns import ABSENT, Column
from tfcompact.runs.history import History


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _finished(run: History) -> str:
    return f"{_local(run.finished):%Y-%m-%d %H:%M}" if run.finished else "unfinished"


def _result(run: History) -> str:
    """How it went; of an unfinished run, when it was alive: it may be at work, or killed and waiting."""
    if run.finished is None:
        return f"touched {_local(run.touched):%m-%d %H:%M}"
    return ABSENT if run.headline is None else f"{run.headline.name} {run.headline.share:.1%}"


def _local(time: datetime.datetime) -> datetime.datetime:
    """The time on this computer's clock."""
    return time.astimezone()


COLUMNS: tuple[Column[History], ...] = (
    Column("Model", lambda r: r.model, left=True),
    Column("Run", lambda r: r.run.removesuffix(".partial"), left=True),
    Column("Stage", lambda r: r.stage, yields=3, left=True),
    Column("Finished", _finished, left=True),
    Column("Took", lambda r: ABSENT if r.seconds is None else duration(r.seconds), yields=1),
    Column("From", lambda r: r.parent or ABSENT, yields=2, left=True),
    Column("Result", _result, left=True),
    Column("Summary", lambda r: r.summary or ABSENT, yields=4, left=True),
)
