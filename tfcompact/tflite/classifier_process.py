"""Classifiers in a process of their own: a file that ends the process that runs it ends only that one.

An app keeps one `ClassifierProcess` for everybody who uses it. Requests are answered one after another, so that none
disturbs another's latency. What goes between the processes is JSON and pixels, with their lengths before them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import statistics
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tfcompact.errors import UserError
from tfcompact.tflite import flatbuffer
from tfcompact.tflite.classifier import Classifier, Prediction
from tfcompact.tflite.first_run import MOST_BYTES, died

MOST_SECONDS = 60
"""Time that one request may take: somebody waits for it."""
KEPT = 12  # loaded files that stay in memory
LENGTHS = struct.Struct("<QQ")


class ClassifierProcess:
    """Answers of files, whatever the files are. Safe to share between threads; made anew when a file has ended it."""

    def __init__(self, seconds: float = MOST_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def classify(
        self, file: Path, sha256: str, image: npt.NDArray[np.uint8], *, top: int = 5, runs: int = 1
    ) -> Prediction:
        """The `top` most probable labels of an RGB photograph, uint8 `[h, w, 3]`; latency is the median of `runs`.

        With more than one run, another goes before them to warm up. Raises `UserError` where the content of the file
        is another than `sha256` says, is no classifier, or ended its process, and where it takes too long.
        """
        request = {"file": str(file), "sha256": sha256, "shape": image.shape, "top": top, "runs": runs}
        with self._lock:
            child = self._child = self._child or _started()
            assert child.stdin is not None
            assert child.stdout is not None
            alarm = threading.Timer(self._seconds, child.kill)
            alarm.start()
            try:
                _send(child.stdin, request, np.ascontiguousarray(image).tobytes())
                answer, _ = _receive(child.stdout)
            except (OSError, EOFError, ValueError):
                self._child = None
                child.kill()
                late = not alarm.is_alive()
                status = child.wait()
                raise UserError(
                    f"{file} gave no answer in {self._seconds:g} s; export it again"
                    if late
                    else died(str(file), status)
                ) from None
            finally:
                alarm.cancel()
        if "error" in answer:
            raise UserError(answer["error"])
        return Prediction(tuple(answer["labels"]), tuple(answer["probabilities"]), answer["latency_ms"])

    def close(self) -> None:
        """Ends the process; the next request starts another."""
        with self._lock:
            if self._child is not None:
                self._child.kill()
                self._child.wait()
                self._child = None


def _started() -> subprocess.Popen[bytes]:
    """A process that waits for requests. It ends when its standard input does, which is when its parent ends."""
    command = [sys.executable, "-m", __name__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _send(stream: IO[bytes], header: dict[str, object], payload: bytes = b"") -> None:
    """Writes one message."""
    text = json.dumps(header).encode()
    stream.write(LENGTHS.pack(len(text), len(payload)) + text)
    stream.write(payload)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Reads one message. Raises `EOFError` where the stream ends before it does."""
    parts = []
    sizes: Sequence[int] = LENGTHS.unpack(_exactly(stream, LENGTHS.size))
    for size in sizes:
        parts.append(_exactly(stream, size))
    return json.loads(parts[0]), parts[1]


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """So many bytes of the stream."""
    content = stream.read(size)
    if len(content) != size:
        raise EOFError
    return content


@lru_cache(maxsize=KEPT)
def _classifier(file: str, sha256: str) -> Classifier:
    """The loaded file. A finished run never changes, so path and content identify it."""
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); export it again") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{file} is not what was exported; remove {Path(file).parent}, then export it again")
    return Classifier(flatbuffer.content_of(content))


def _answer(request: dict[str, Any], pixels: bytes) -> dict[str, object]:
    """What the file says of the image, as it is sent back."""
    image = np.frombuffer(pixels, np.uint8).reshape(request["shape"])
    try:
        model = _classifier(request["file"], request["sha256"])
        runs = request["runs"]
        given = [model.classify(image, top=request["top"]) for _ in range(runs + (runs > 1))]
    except UserError as error:
        return {"error": str(error).replace(flatbuffer.described(b""), request["file"])}
    timed = [prediction.latency_ms for prediction in given[-runs:]]
    return dataclasses.asdict(dataclasses.replace(given[0], latency_ms=statistics.median(timed)))


def _serve() -> None:
    """Answers requests until there are no more. What libraries print to standard output goes to standard error."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            request, pixels = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _send(answers, _answer(request, pixels))


if __name__ == "__main__":
    _serve()
