"""Where and how files were measured: what measurements must share to be compared, and how it is said everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tfcompact.records.device import DeviceKind


class Cost(NamedTuple):
    """What a file costs where it was measured: an axis of the plots."""

    name: str
    text: str  # with its unit
    cheaper: str  # what a file is that costs less


class DeviceWords(NamedTuple):
    """What reports say of a kind of device."""

    name: str
    cost: Cost
    caution: str | None  # what a reader must know before carrying what was measured elsewhere


LATENCY = Cost("latency", "Latency of one image in ms, median", "faster")
INSTRUCTIONS = Cost("instructions", "Instructions of one inference, in millions", "cheaper")
DEVICES: dict[DeviceKind, DeviceWords] = {
    "host": DeviceWords(
        "host computer",
        LATENCY,
        "Latency of this computer, not of a phone: the order of formats and models can differ on ARM.",
    ),
    "android": DeviceWords("Android device", LATENCY, None),
    "emulated": DeviceWords(
        "emulated",
        INSTRUCTIONS,
        "Emulated: there is no latency to show. Instructions of one inference rank files and are the same in "
        "every run, but know no caches and no pipeline.",
    ),
}
DELEGATES = {"xnnpack": "XNNPACK", "gpu": "GPU", "npu": "NPU", "nnapi": "NNAPI"}
"""Delegates whose names are abbreviations; others are called what they are called on the command line."""


@dataclass(frozen=True)
class Setting:
    """What two measurements must share before their latencies and accuracies may be compared."""

    device: str
    device_kind: DeviceKind
    processor: str
    runtime: str
    delegate: str
    threads: int
    data: str | None  # the first eight digits of the data set's digest
    images: int | None  # test images
    backend: str
    mode: str
    affinity: str
    softmax: bool
    data_name: str = field(compare=False)

    @property
    def place(self) -> str:
        """`Intel Xeon (host computer), XNNPACK, 1 thread`; of a phone also what ran the file there."""
        where = self.device_text
        where += "" if "QEMU" in where else f" ({DEVICES[self.device_kind].name})"  # said already
        by = f" by {self.backend}" if self.device_kind == "android" else ""
        pinned = f", cores {self.affinity}" if self.affinity else ""
        mode = ", sustained" if self.mode == "sustained" else ""
        softmax = "" if self.softmax else ", without softmax"
        return f"{where}, {self.delegate_text}{by}, {threads_text(self.threads)}{pinned}{mode}{softmax}"

    @property
    def device_text(self) -> str:
        """The processor's name, or the device's where that is not known."""
        return self.processor or self.device

    @property
    def delegate_text(self) -> str:
        """`XNNPACK`; `XNNPACK instead of GPU` where the file fell back to it."""
        ran, _, wanted = self.delegate.partition("-instead-of-")
        return DELEGATES.get(ran, ran) + (f" instead of {DELEGATES.get(wanted, wanted)}" if wanted else "")

    @property
    def images_text(self) -> str:
        """`634 test images of flowers (3f9a10c2)`, or that there was no accuracy."""
        if self.images is None:
            return "no accuracy measured"
        return f"{self.images} test images of {self.data_name or 'data set'} ({self.data})"

    @property
    def cost(self) -> Cost:
        """What the rows' `cost` is."""
        return DEVICES[self.device_kind].cost

    @property
    def caution(self) -> str | None:
        """What a reader must know before carrying what was measured elsewhere; None where there is nothing."""
        return DEVICES[self.device_kind].caution


def threads_text(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{threads} thread" if threads == 1 else f"{threads} threads"
