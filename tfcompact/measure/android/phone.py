"""One phone through the `adb` client: run a command, bring a file, fetch a file, each with one clear error.

Nothing here knows what is measured. Commands that only look, and the bringing of files, are tried again where the
connection broke; a command that runs something (`Phone.shell`) is not. No TensorFlow here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

from tfcompact.errors import UserError
from tfcompact.measure.android import adb
from tfcompact.measure.android.adb import ANSWER_S, Adb, AdbError, DeviceGone, DiskFull, Result, TimedOut

Answer = TypeVar("Answer")

DIRECTORY = "/data/local/tmp/tfcompact"
"""Where our files live on a device. The shell's user may write and run files under /data/local/tmp only."""
ATTEMPTS = 3
PAUSE_S = 1.0
"""Before a second attempt; before the third, twice as long."""
SLOWEST_MB_S = 1.0
"""What is allowed for in the time limit of a transfer, in 10^6 bytes a second: USB 2 gives some 30, a bad radio 2."""
KEEP_DAYS = 30
"""How long a file stays on a device that nothing asks for any more."""


class Phone:
    """One device, ready or not: every method raises `DeviceGone` or another `AdbError` where it is not."""

    def __init__(self, adb: Adb, serial: str) -> None:
        self.adb = adb
        self.serial = serial

    def shell(self, command: str, timeout_s: float = 60.0) -> Result:
        """Runs a line of shell on the device, once, with its own exit status and both of its outputs.

        Raises `DeviceGone` where the device went away before the command ended, `TimedOut` after `timeout_s`
        seconds. A status that is not 0 is the caller's to judge.
        """
        line = _WRAPPED.format(command=command, end=_END)
        doing = f"running {adb.short([command])}"
        result = self.adb.call("shell", "-T", "-n", line, serial=self.serial, timeout_s=timeout_s, doing=doing)
        end = f"\n{_END}\n"
        if not result.err.endswith(end):
            if end in result.out:
                raise AdbError(f"device {self.serial} is older than Android 7, whose adbd gives no exit status")
            self._lost(result, doing)
        return Result(result.code, result.out, result.err.removesuffix(end))

    def ask(self, command: str, timeout_s: float = ANSWER_S) -> Result:
        """What `shell` gives for a command that only looks, which is tried again where the connection broke."""
        return _again(lambda: self.shell(command, timeout_s))

    def check(self, command: str, timeout_s: float = ANSWER_S) -> str:
        """What `ask` put out. Raises `AdbError` with its last words where its status is not 0."""
        result = self.ask(command, timeout_s)
        if result.code != 0:
            if _full(result.err + result.out):
                raise DiskFull(self._disk_full(adb.short([command])))
            raise AdbError(
                f"device {self.serial}: {adb.short([command])} failed with status {result.code} "
                f"({result.last_words or 'it said nothing'})"
            )
        return result.out

    def push(self, local: Path, remote: str) -> None:
        """Copies a file to the device. After an error half of it may be there under `remote`.

        Raises `DiskFull` where it does not fit; `push_by_sha256` is the one that leaves nothing partial.
        """
        what = f"pushing {local.name}"
        if not local.is_file():
            raise UserError(f"{local} is not there, so it cannot be pushed; check the path")
        limit = _transfer_s(local.stat().st_size)

        def copy() -> None:
            result = self.adb.call("push", str(local), remote, serial=self.serial, timeout_s=limit, doing=what)
            if result.code == 0:
                return
            if _full(result.err + result.out):
                raise DiskFull(self._disk_full(f"{local.name} ({local.stat().st_size / 1e6:.1f} MB)"))
            self._judge(result, what)
            raise AdbError(f"device {self.serial}: {what} to {remote} failed ({result.reason})")

        _again(copy)

    def pull(self, remote: str, local: Path) -> None:
        """Copies a file from the device; `local` is whole or as it was. Raises `AdbError` where it cannot be read."""
        what = f"pulling {remote}"
        size = self.ask(f"stat -c %s {shlex.quote(remote)}").out.strip()
        limit = _transfer_s(int(size) if size.isdigit() else 0)
        partial = local.with_name(f"{local.name}.{uuid.uuid4().hex[:8]}.tmp")

        def copy() -> None:
            result = self.adb.call("pull", remote, str(partial), serial=self.serial, timeout_s=limit, doing=what)
            if result.code == 0:
                return
            self._judge(result, what)
            raise AdbError(f"device {self.serial}: {what} failed ({result.reason})")

        try:
            _again(copy)
            partial.replace(local)
        finally:
            partial.unlink(missing_ok=True)

    def push_by_sha256(self, path: Path) -> str:
        """Brings a file to the device, if it is not there, and returns its path: `DIRECTORY/<sha256>/<name>`.

        The path holds the content's SHA-256, so a file that changed has another. It is pushed under a temporary
        name, its hash taken on the device, and only then renamed: nothing partial is ever taken for whole. A file
        that is already there is used if its hash, taken on the device now, is right.
        """
        return f"{self.push_files_by_sha256({path.name: path})}/{path.name}"

    def push_files_by_sha256(self, files: Mapping[str, Path]) -> str:
        """Brings files that belong together (a program and its libraries) into one directory, and returns its path.

        As `push_by_sha256`, of which this is the general case: the directory is named after the one file's SHA-256,
        or the SHA-256 of all names and hashes, and appears whole. `files` are by their names there, without folders.
        """
        for name in files:
            if not name or "/" in name or name.startswith("."):
                raise UserError(f"a file on the device cannot be called {name!r}; take a name without folder and dot")
        hashes = {name: _sha256(path) for name, path in sorted(files.items())}
        listing = "".join(f"{digest}  {name}\n" for name, digest in hashes.items())
        digest = next(iter(hashes.values())) if len(hashes) == 1 else hashlib.sha256(listing.encode()).hexdigest()
        final = f"{DIRECTORY}/{digest}"
        if self._holds(final, hashes):
            self.ask(f"touch -c {final}")  # `forget_unused` goes by it
            return final
        partial = f"{DIRECTORY}/{digest}.{uuid.uuid4().hex[:8]}.part"
        self.check(f"mkdir -p {partial}")
        try:
            for name, path in files.items():
                self.push(path, f"{partial}/{name}")
            programs = [shlex.quote(f"{partial}/{name}") for name, path in files.items() if os.access(path, os.X_OK)]
            if programs:
                self.check(f"chmod 755 {' '.join(programs)}")
            if not self._holds(partial, hashes):
                raise AdbError(
                    f"device {self.serial}: {', '.join(files)} did not arrive as sent; try again, with another cable"
                )
            # A directory of that name with another content is a damaged one: mv would move into it.
            self.check(f"rm -rf {final} && mv {partial} {final}")
        except AdbError:
            self._forget(partial)
            raise
        return final

    def forget_unused(self) -> None:
        """Removes files that no push asked for in `KEEP_DAYS` days, and what killed pushes left, a day ago or longer.

        A push of now is nobody's to end.
        """
        old = f"\\( -name '*.part' -mtime +0 -o -mtime +{KEEP_DAYS} \\)"
        self.ask(f"find {DIRECTORY} -mindepth 1 -maxdepth 1 {old} -exec rm -rf {{}} +")

    def remove(self, pushed: Iterable[str]) -> None:
        """Removes files that `push_by_sha256` brought, given by the paths that it returned."""
        homes = sorted({str(PurePosixPath(path).parent) for path in pushed})
        for home in homes:
            if not re.fullmatch(rf"{DIRECTORY}/[0-9a-f]{{64}}", home):
                raise ValueError(f"{home} is no directory that push_by_sha256 made")
        if homes:
            self.ask(f"rm -rf {' '.join(homes)}")

    def sha256(self, remote: str) -> str | None:
        """The SHA-256 of a file on the device, taken there; None where there is no such file."""
        result = self.ask(f"sha256sum {shlex.quote(remote)}", timeout_s=120.0)
        if result.code == 127:
            raise AdbError(f"device {self.serial} has no sha256sum, which Android has since version 6")
        found = re.match(r"\\?([0-9a-f]{64})\s", result.out)
        return found[1] if result.code == 0 and found else None

    def state(self) -> str:
        """`device` where it is ready, else the server's word for what it is (`offline`), or `absent`."""
        return next((d.state for d in self.adb.listed() if d.serial == self.serial), "absent")

    def _holds(self, directory: str, hashes: Mapping[str, str]) -> bool:
        """Whether the directory has files of these names and hashes, taken there."""
        return all(self.sha256(f"{directory}/{name}") == digest for name, digest in hashes.items())

    def _forget(self, remote: str) -> None:
        """Removes what a failed push left, if the device can still be asked."""
        try:
            self.shell(f"rm -rf {remote}", ANSWER_S)
        except AdbError:
            return

    def _disk_full(self, what: str) -> str:
        return (
            f"no space left on device {self.serial} for {what}; free some, for example with: "
            f"adb -s {self.serial} shell rm -r {DIRECTORY}"
        )

    def _lost(self, result: Result, doing: str) -> NoReturn:
        """Raises what a call that did not come to its end means: by the state of the device now."""
        state = self.state()
        if state not in ("device", "absent", "offline"):
            raise adb.not_ready(self.serial, state)
        back = ", and is back now" if state == "device" else ""
        said = result.err.strip()
        because = f" ({result.reason})" if said and state == "device" else ""
        raise DeviceGone(
            f"device {self.serial} went away while {doing}{because}{back}; check its cable and its battery"
        )

    def _judge(self, result: Result, doing: str) -> None:
        """Raises where the connection failed in a transfer, not the transfer itself."""
        if _BROKEN.search(result.err + result.out) or self.state() != "device":
            self._lost(result, doing)


_END = "tfcompact: the command has ended"
"""Last line of a command's errors. When a device goes away the client may well end with status 0 and no word."""
_WRAPPED = "trap 'kill -9 -$$' HUP; ( {command}\n) & wait $!; c=$?; printf '\\n%s\\n' '{end}' >&2; exit $c"
"""A hang-up, which adbd sends when the client goes, ends all that the command started: nothing goes on to compute
beside the next measurement. A shell obeys a trap only while it waits for a job, hence the `&`. adbd makes the shell
the leader of a group of its own; where it were not, there would be no group `$$`, and no other is ended."""
_BROKEN = re.compile(r"error: closed|protocol fault|device '[^']*' not found|device offline|no devices|reset by peer")


def _again(action: Callable[[], Answer]) -> Answer:
    """The answer of an action that may be repeated, tried a few times where the connection broke under it."""
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except (DeviceGone, TimedOut):
            time.sleep(attempt * PAUSE_S)
    return action()


def _transfer_s(size: int) -> float:
    return ANSWER_S + size / 1e6 / SLOWEST_MB_S


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None


def _full(text: str) -> bool:
    return "No space left on device" in text or "Disk quota exceeded" in text
