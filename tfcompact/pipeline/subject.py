"""What a target is about: its network, its images, their size. No TensorFlow here."""

from __future__ import annotations

import functools
from pathlib import Path

from rich.console import Console

from tfcompact import models, stages
from tfcompact.data import open_images
from tfcompact.data.imageset import ImageSet
from tfcompact.data.splits import SPLITS
from tfcompact.errors import UnknownName, UserError
from tfcompact.models import Spec, space_network
from tfcompact.pipeline.target import Target
from tfcompact.runs import lineage, store

SHOWN_CLASSES = 10  # named in the line that a training begins with


def network_named(name: str, root: Path) -> Spec:
    """The network called `name`: a row of the zoo, the file of an architecture, or one that there are runs of.

    Raises `UnknownName` that suggests the nearest row of the zoo, and `UserError` for a file that holds no
    architecture.
    """
    if name.endswith(".json"):
        return space_network.from_file(Path(name))
    try:
        return models.spec(name)
    except UnknownName:
        for run in store.finished(root, name) if name and "/" not in name else ():
            record = lineage.network_record(run)
            if record.kind == "architecture":
                return space_network.from_record(record)
        raise


class Subject:
    """The network and the images of one target. The images are opened once."""

    def __init__(self, target: Target, console: Console) -> None:
        self.target, self.console = target, console
        self.spec = network_named(target.model, target.runs)

    @functools.cache  # noqa: B019  (a subject lives as long as one command)
    def _open(self, source: str) -> ImageSet:
        data = open_images(
            source,
            cache=self.target.cache or self.target.runs / "cache",
            skip_unreadable=self.target.skip_unreadable,
            log=lambda line: self.console.print(line, highlight=False, markup=False),
        )
        for note in data.notes:
            self.console.print(note, highlight=False, markup=False)
        return data

    def source(self, parent: store.Run | None) -> str:
        """Where the images come from: where it was asked for, the parent's, else the digits."""
        if self.target.data:
            return self.target.data
        return str(parent.provenance["data"]["source"]) if parent else "digits"

    def images(self, parent: store.Run | None) -> ImageSet:
        """The images asked for, else the parent's. Raises `UserError` where their classes differ from it."""
        data = self._open(self.source(parent))
        if parent is None:
            return data
        recorded = parent.provenance["data"]
        if tuple(recorded["classes"]) != data.classes:
            raise UserError(
                f"{parent.name} was trained on {len(recorded['classes'])} classes of "
                f"{recorded['source']}, not on the {len(data.classes)} of {data.name}; "
                f"try: make {stages.first()} MODEL={self.spec.name} DATA={self.target.data}"
            )
        return data

    def px(self, parent: store.Run | None) -> int:
        """The side of the images: the parent's, the one asked for, or what suits data and network."""
        if parent:
            if self.target.px not in (None, parent.px):
                raise UserError(
                    f"{parent.name} has images of {parent.px} px, not {self.target.px}; train at that size first"
                )
            return parent.px
        if self.target.px is not None:
            return self.spec.shape(self.target.px)[0]
        return suitable_px(self.spec, self.images(None).native_px)


def summary(data: ImageSet) -> str:
    """The line about the images that a training begins with: `photos: 3 classes (a, b, c), 80 to train, …`."""
    shown = [*data.classes[:SHOWN_CLASSES], *["…"] * (len(data.classes) > SHOWN_CLASSES)]
    train, validation, test = (f"{data.sizes[split]:,}" for split in SPLITS)
    return (
        f"{data.name}: {len(data.classes)} classes ({', '.join(shown)}), {train} images to train, "
        f"{validation} to validate, {test} to test"
    )


def suitable_px(spec: Spec, native_px: int) -> int:
    """The published size for photographs; for smaller images the next multiple of 32 from 64 up the network takes."""
    wanted = max(64, -(-native_px // 32) * 32, spec.min_px)
    return min(wanted, spec.image_px)
