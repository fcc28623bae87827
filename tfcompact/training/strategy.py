"""How a training is spread: over machines where TF_CONFIG names them, over this one's GPUs, or not at all.

Every worker does the same in the same order: that order alone pairs up what they send each other. So they differ in
one thing only, which is where results go: the chief's are kept, the others' are thrown away with a directory of
their own. No TensorFlow is imported before a strategy is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfcompact.errors import UserError
from tfcompact.frameworks import tf

KEPT = "what was finished is kept, and goes on from there"
CHUNK_BYTES = 2**27  # sent at once: gRPC takes less than 2 GiB
_PROBE_SECONDS = 1.0
EXAMPLE = '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Workers:
    """The processes of one training by their addresses, the chief first, and which of them this one is."""

    addresses: tuple[str, ...] = ("localhost",)
    index: int = 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return len(self.addresses) > 1

    @property
    def chief(self) -> bool:
        """Whether this process owns the run directory."""
        return self.index == 0

    def named(self, index: int) -> str:
        """`worker 1 of 2 (10.0.0.2:2222)`."""
        return f"worker {index} of {len(self.addresses)} ({self.addresses[index]})"

    def gone(self) -> list[int]:
        """Those that no longer listen. One that hangs, or a machine that is off, may not be among them."""
        return [i for i, address in enumerate(self.addresses) if i != self.index and not _listens(address)]


def workers() -> Workers:
    """The processes that the environment's TF_CONFIG names, else this one alone.

    Raises `UserError` where what it says is wrong.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return Workers()
    try:
        content = json.loads(text)
        cluster: dict[str, list[str]] = content["cluster"]
        kind, index = content["task"]["type"], int(content["task"]["index"])
        chiefs, others = list(cluster.get("chief", [])), list(cluster.get("worker", []))
        own = (chiefs if kind == "chief" else others)[index]
        if kind not in ("chief", "worker") or set(cluster) - {"chief", "worker"} or len(chiefs) > 1 or index < 0:
            raise ValueError(f"{kind} {index} of {', '.join(cluster)}")
        addresses = (*chiefs, *others)
        if len(set(addresses)) < len(addresses):
            raise ValueError("the same address twice")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"TF_CONFIG names no chief or worker this could be ({error!r}); e.g. {EXAMPLE}") from None
    return Workers(addresses, addresses.index(own))


@functools.cache
def strategy() -> Any:
    """The `tf.distribute` strategy of this process. With several workers it waits for all of them.

    TensorFlow takes such a strategy only before its first operation. Raises `UserError` where they do not meet.
    """
    if workers().several:
        try:
            with _interruptible():
                return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            raise UserError(
                f"{workers().named(workers().index)} does not get together with the others ({_first_line(error)}); "
                "end what is left of them, and start all again"
            ) from error
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def from_chief(content: bytes) -> bytes:
    """The chief's `content`. All workers wait here for each other; raises `UserError` where one does not come."""
    if not workers().several:
        return content

    def sent(numbers: Any) -> Any:
        return tf.Variable(numbers, dtype=tf.int64, trainable=False).numpy()  # it begins with the chief's value

    with together(), strategy().scope():
        size = int(sent(len(content)))
        content = content.ljust(-(-size // 8) * 8, b"\0") if workers().chief else bytes(-(-size // 8) * 8)
        chunks = (np.frombuffer(content[i : i + CHUNK_BYTES], np.int64) for i in range(0, size, CHUNK_BYTES))
        return b"".join(sent(chunk).tobytes() for chunk in chunks)[:size]


def agreed(asked: Mapping[str, Any], there: bool) -> bool:
    """What the chief says to `there`: whether the run is finished.

    Raises `UserError` in a worker that was asked for something else than the chief.
    """
    told = json.loads(from_chief(json.dumps([dict(asked), there]).encode()))
    if differing := sorted(name for name in told[0] if told[0][name] != asked.get(name)):
        raise UserError(
            f"{workers().named(workers().index)} was started for other {', '.join(differing)} than the chief; "
            "start all workers with the same command, and with the same images"
        )
    there = told[1]
    return bool(there)


@contextlib.contextmanager
def recorded(recording: Callable[[], contextlib.AbstractContextManager[Path]]) -> Iterator[Path]:
    """A directory to fill: for the chief that of `recording()`, for others one that is removed.

    The block is left by all when the chief's is complete.
    """
    with together():
        if workers().chief:
            with recording() as directory:
                yield directory
        else:
            with tempfile.TemporaryDirectory(prefix="tfcompact-") as name:
                yield Path(name)
        from_chief(b"")


@contextlib.contextmanager
def together(goes_on: Callable[[], str] = lambda: KEPT) -> Iterator[None]:
    """Turns the loss of a worker in the block into a `UserError` with the remedy; `goes_on()` tells the rest."""
    try:
        yield
    except Exception as error:
        if not workers().several or not _is_loss(error):
            raise
        gone = [workers().named(i) for i in workers().gone()]
        who = f"{' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone" if gone else "a worker does not answer"
        raise UserError(f"{who}; start all workers again: {goes_on()}") from error


def shared(batches: Any, size: int) -> Any:
    """Batches of `size` for the strategy in scope: each replica gets its equal part of each, in order.

    Raises `UserError` where there is no equal part.
    """
    current = tf.distribute.get_strategy()
    replicas = current.num_replicas_in_sync
    if replicas == 1:
        return batches
    if size % replicas:
        raise UserError(
            f"a batch of {size} cannot be shared equally by {replicas} replicas; "
            f"try --batch {-(-size // replicas) * replicas}"
        )

    def of_worker(context: Any) -> Any:
        here = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def parts(*tensors: Any) -> Any:
            cut = (tf.reshape(x, (replicas, size // replicas, *x.shape[1:])) for x in tensors)
            return tf.data.Dataset.from_tensor_slices(tuple(x[first : first + here] for x in cut))

        return batches.flat_map(parts).prefetch(2 * here)

    return current.distribute_datasets_from_function(of_worker)


def _is_loss(error: Exception) -> bool:
    kinds = (
        *(tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError),
        *(tf.errors.CancelledError, tf.errors.FailedPreconditionError),
    )
    return isinstance(error, kinds) or "Collective ops is aborted" in str(error)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError), socket.create_connection((host, int(port)), _PROBE_SECONDS):
        return True
    return False


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the process at once: TensorFlow waits for workers where Python hears nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
