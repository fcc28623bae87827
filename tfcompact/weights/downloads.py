"""ImageNet's weights as tf_keras.applications fetches them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.models import Spec

IMAGENET = "imagenet"


def downloaded(spec: Spec, advice: str) -> Path:
    """The file that tf_keras.applications fetches for its network, from Keras' own cache if it is there.

    `advice` says which files would do instead, for an error. Keras knows most files' checksums and refuses others;
    the sha256 of what came is recorded with the run.
    """
    source = spec.keras
    assert source is not None
    made = getattr(keras.applications, source.application)
    with _watching_downloads() as files:
        try:
            made(weights=IMAGENET, classifier_activation=None, **source.options)
        except Exception as error:  # every module of Keras has errors of its own for a server that does not answer
            if files:
                raise
            reason = str(error).splitlines()[0].rpartition(" -- ")[2] if str(error) else type(error).__name__
            raise UserError(
                f"the ImageNet weights of {spec.name} could not be downloaded ({reason}); fetch them on a machine "
                "with the internet and give --weights FILE"
                + (f", or {advice.removeprefix('give ')}" if spec.torch else "")
            ) from None
    if not files:
        raise UserError(f"tf_keras.applications has no ImageNet weights for {spec.name}; {advice}")
    return files[-1]


@contextlib.contextmanager
def _watching_downloads() -> Iterator[list[Path]]:
    """The list of files that Keras fetches, or finds in its cache, within the block."""
    from tf_keras.src.utils import data_utils  # type: ignore[import-untyped]

    original = data_utils.get_file
    found: list[Path] = []

    def get_file(*args: object, **kwargs: object) -> str:
        path: str = original(*args, **kwargs)
        found.append(Path(path))
        return path

    data_utils.get_file = get_file
    try:
        yield found
    finally:
        data_utils.get_file = original
