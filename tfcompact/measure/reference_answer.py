"""What this computer answers to one fixed image, which a device's answer is held against. No TensorFlow here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfcompact.errors import UserError
from tfcompact.measure.measurer import File, Log
from tfcompact.records.artifact import Artifact
from tfcompact.records.measurement import Accuracy, OutputCheck
from tfcompact.tflite import runtime

DIFFERS = 0.02
"""A probability further than this from this computer's sets the flag `output_differs`. It is five steps of an 8-bit
output. XNNPACK's integer kernels were seen to give the same bits on ARM64 and x86-64, the builtin ones up to 3 steps
apart, float ones 4e-7."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A file with the image it is checked with, and what this computer answers, by delegate.

    `scale` is that of an integer output; `accuracy` what this computer measured of the file, where it did.
    """

    path: Path
    artifact: Artifact
    image: bytes
    answers: dict[str, np.ndarray]
    scale: float | None
    accuracy: Accuracy | None

    @classmethod
    def of(cls, file: File, delegates: Sequence[str], accuracy: Accuracy | None = None) -> Reference:
        """The reference of a file, run here with each delegate, or with XNNPACK where this computer has none such.

        Raises `UserError` where it is not what its artifact says, or does not run.
        """
        path, artifact = file
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
        return cls(path, artifact, image, answers, scale, accuracy)

    def check(self, output: bytes, delegate: str) -> OutputCheck:
        """The comparison of what a device answered with what this computer does.

        A value that is not a number counts as a difference of 1, the most that two probabilities can differ. Raises
        `UserError` for an answer of another size.
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


def references(
    files: Sequence[File], delegates: Sequence[str], accuracies: Mapping[str, Accuracy], log: Log
) -> tuple[list[Reference], list[str]]:
    """The references of the files that run on this computer, and a line for each that does not.

    `accuracies` are those that this computer measured, by the files' sha256. Raises `UserError` where no file runs.
    """
    found, failures = [], []
    for file in files:
        try:
            found.append(Reference.of(file, delegates, accuracies.get(file.artifact.sha256)))
        except UserError as error:
            failures.append(str(error))
            log(f"failed: {error}")
    if not found:
        raise UserError(failures[0])
    unknown = [reference.artifact for reference in found if reference.accuracy is None]
    if unknown:
        formats, model = ", ".join(artifact.format for artifact in unknown), unknown[0].model
        log(f"no accuracy of {formats} yet, so none in these rows; first: make measure MODEL={model}")
    return found, failures
