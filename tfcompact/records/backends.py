"""The back ends there are, which is to say what runs a file on a device: one table, from which every list is made."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tfcompact.errors import UnknownName
from tfcompact.records.device import DeviceKind


class BackendFacts(NamedTuple):
    """What is known of a back end without importing it.

    `keeps` is what it leaves of the timed runs: the time of each (`samples`), their `summary`, or no time at all but
    the `instructions` of one. `module` of `tfcompact.measure` implements it. `options` of `tfcompact measure` are its
    own and no other's.
    """

    name: str
    device: DeviceKind
    keeps: Literal["samples", "summary", "instructions"]
    module: str
    pins: bool = False  # runs on the cores of a mask
    profiles: bool = False  # tells the times of operators
    needs_screen: bool = False  # behind a dark one Android gives an app the small cores
    options: tuple[str, ...] = ()

    @property
    def timed(self) -> bool:
        """Whether it takes times, which no emulated device has."""
        return self.keeps != "instructions"

    @property
    def in_rounds(self) -> bool:
        """Whether runs of several calls can be joined to one row."""
        return self.keeps == "samples"


# fmt: off
TABLE = (  # the first of a kind of device is the default there
    BackendFacts("ai_edge_litert",   "host",     "samples",      "host"),
    BackendFacts("native",           "android",  "samples",      "backends.native", pins=True, profiles=True),
    BackendFacts("benchmark_model",  "android",  "summary",      "backends.benchmark_model", pins=True, profiles=True,
                 options=("benchmark_model", "benchmark_args", "benchmark_libs", "require_full_delegation")),
    BackendFacts("litert_app",       "android",  "samples",      "backends.litert_app", needs_screen=True,
                 options=("apk",)),
    BackendFacts("arm64_insn_proxy", "emulated", "instructions", "emulation"),
)
# fmt: on

BACKENDS = tuple(backend.name for backend in TABLE)


def facts(name: str) -> BackendFacts:
    """The row of the table. Raises `UnknownName` where there is no back end of that name."""
    for backend in TABLE:
        if backend.name == name:
            return backend
    raise UnknownName("back end", name, BACKENDS)


def default(device: DeviceKind) -> BackendFacts:
    """The back end that runs files on devices of that kind unless another is asked for."""
    return next(backend for backend in TABLE if backend.device == device)
