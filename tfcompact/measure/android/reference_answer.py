"""This computer's answers to one fixed image, which a device's are held against. No TensorFlow here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfcompact.errors import UserError
from tfcompact.records.artifact import Artifact
from tfcompact.records.measurement import OutputCheck
from tfcompact.tflite import runtime

DIFFERS = 0.02
"""A probability further than this from this computer's sets the flag `output_differs`. It is five steps of an 8-bit
output. XNNPACK's integer kernels were seen to give the same bits on ARM64 and x86-64, the builtin ones up to 3 steps
apart, float ones 4e-7."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A file with the image it is checked with, and what this computer answers, by delegate."""

    path: Path
    artifact: Artifact
    image: bytes
    answers: dict[str, np.ndarray]
    scale: float | None  # of an integer output

    @classmethod
    def of(cls, path: Path, artifact: Artifact, delegates: Sequence[str]) -> Subject:
        """The file, run here with each delegate; with XNNPACK where this computer has no such delegate.

        Raises `UserError` where it is not what its artifact says, or does not run.
        """
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != artifact.sha256:
            raise UserError(f"{path} is not the file its artifact describes; export it again")
        px = artifact.image_px
        pixels = np.random.default_rng(0).integers(0, 256, (1, px, px, 3), np.uint8)
        answers, image, scale = {}, b"", None
        for delegate in delegates:
            model = runtime.LiteModel(path, delegate=delegate if delegate in runtime.DELEGATES else "xnnpack")
            prepared = model.prepared(pixels)
            answers[delegate] = model.raw(prepared)[0]
            image = np.ascontiguousarray(prepared).tobytes()
            quantization = model.output_quantization
            scale = quantization.scale if quantization else None
        return cls(path, artifact, image, answers, scale)

    def check(self, output: bytes, delegate: str) -> OutputCheck:
        """What a device answered against what this computer does. Raises `UserError` for an answer of another size.

        A value that is not a number counts as a difference of 1, the most that two probabilities can differ.
        """
        ours = self.answers[delegate]
        if len(output) != ours.nbytes:
            raise UserError(
                f"{self.path.name}: the answer has {len(output)} bytes instead of {ours.nbytes}; "
                "the back end read another file, or the wrong tensor"
            )
        theirs = np.frombuffer(output, ours.dtype)
        steps = None
        if self.scale is not None:
            steps = int(np.abs(theirs.astype(np.int64) - ours.astype(np.int64)).max())
            difference = steps * self.scale
        else:
            distance = np.abs(theirs.astype(np.float64) - ours.astype(np.float64))
            difference = float(np.where(np.isfinite(distance), distance, 1.0).max())
        theirs_sha256, ours_sha256 = (hashlib.sha256(data).hexdigest() for data in (output, ours.tobytes()))
        return OutputCheck(theirs_sha256, ours_sha256, steps, difference)
