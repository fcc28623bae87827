"""Android devices through the `adb` client: run a command, bring a file, fetch a file, each with one clear error.

Nothing here knows what is measured. Commands that only look, and the bringing of files, are tried again where the
connection broke; a command that runs something (`Phone.shell`) is not. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

from tfcompact.errors import UnknownName, UserError

Answer = TypeVar("Answer")

DIRECTORY = "/data/local/tmp/tfcompact"
"""Where our files live on a device. The shell's user may write and run files under /data/local/tmp only."""
ATTEMPTS = 3
PAUSE_S = 1.0
"""Before a second attempt; before the third, twice as long."""
ANSWER_S = 30.0
"""Longest wait in seconds for a command that only looks, and for the client to answer at all."""
SLOWEST_MB_S = 1.0
"""What is allowed for in the time limit of a transfer, in 10^6 bytes a second: USB 2 gives some 30, a bad radio 2."""
KEEP_DAYS = 30
"""How long a file stays on a device that nothing asks for any more."""


class AdbError(UserError):
    """The device, or the way to it, does not do what was asked."""


class DeviceGone(AdbError):
    """The device went away, or is not there."""


class DiskFull(AdbError):
    """No space left on the device."""


class TimedOut(AdbError):
    """No answer within the time limit; what was started may still run on the device."""


class Interrupted(AdbError):
    """The call was ended, or not begun, because of `Adb.interrupt`."""


@dataclass(frozen=True)
class Result:
    """What a command left: its exit status, and its two outputs as text."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Listed:
    """One line of `adb devices -l`. `state` is `device` where it is ready; `model` may be empty."""

    serial: str
    state: str
    model: str


class Adb:
    """The client program, and the server it talks to: `port` is that of the server, 5037 unless given.

    A call is a process in a session of its own, so that a terminal's Ctrl-C does not end it before we decide to:
    an exception in the calling thread does, and `interrupt` from any thread. Raises `UserError` where the program is
    not there.
    """

    def __init__(self, executable: str | Path | None = None, port: int | None = None) -> None:
        self.executable = _found(executable)
        self.port = port
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._interrupted = False

    def words(self, serial: str | None, *words: str) -> list[str]:
        """The command line of one call, for one device or none."""
        server = [] if self.port is None else ["-P", str(self.port)]
        return [self.executable, *server, *(() if serial is None else ("-s", serial)), *words]

    def call(self, *words: str, serial: str | None = None, timeout_s: float = ANSWER_S, doing: str = "") -> Result:
        """One call of the client, whatever its exit status. `doing` is for the error.

        Raises `TimedOut`, and `Interrupted` where `interrupt` was called before it ended.
        """
        doing = doing or f"running adb {_short(words)}"
        with self._started(self.words(serial, *words), doing) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                of = f" of device {serial}" if serial else ""
                raise TimedOut(
                    f"no answer{of} within {timeout_s:g} s while {doing}; check its cable, or: adb reconnect"
                ) from None
            finally:
                with self._lock:
                    self._running.discard(process)
                    _end(process)
        if self._interrupted and process.returncode < 0:
            raise Interrupted(f"interrupted while {doing}")
        return Result(process.returncode, _text(out), _text(err))

    def interrupt(self) -> None:
        """Ends every call that is under way, and lets no other begin: they raise `Interrupted`, in their threads."""
        with self._lock:
            self._interrupted = True
            for process in self._running:
                _end(process)

    def _started(self, command: Sequence[str], doing: str) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._interrupted:
                raise Interrupted(f"interrupted before {doing}")
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise UserError(f"{self.executable} cannot be started ({error.strerror}); give --adb PATH") from None
            self._running.add(process)
            return process

    def listed(self) -> tuple[Listed, ...]:
        """Every device the server knows, ready or not. Starts the server where there is none."""
        result = self.call("devices", "-l")
        if result.code != 0:
            raise AdbError(f"adb cannot list devices ({_last(result.err)}); try: adb kill-server, then again")
        return parse_devices(result.out)

    def connect(self, address: str) -> None:
        """Joins a device that listens on the network, `host:port`. Raises `DeviceGone`."""
        result = self.call("connect", address)
        if not re.match(r"(already )?connected to", result.out):
            raise DeviceGone(
                f"no device answers at {address} ({_last(result.out) or _last(result.err)}); "
                "check that it is in the same network, and: adb tcpip 5555"
            )

    def phones(
        self, serials: Sequence[str] = (), tell: Callable[[str], None] = lambda line: None
    ) -> tuple[Phone, ...]:
        """The devices with these serial numbers, or all that are ready; `tell` hears of the others.

        A number `host:port` that is not listed yet is a device on the network, and is joined.

        Raises `UnknownName` or `AdbError` where there is none, where one that was asked for is not ready, and
        where only devices that are not ready are there.
        """
        found = {device.serial: device for device in self.listed()}
        strangers = [serial for serial in serials if serial not in found and re.fullmatch(r"\S+:\d+", serial)]
        if strangers:
            for serial in strangers:
                self.connect(serial)
            found = {device.serial: device for device in self.listed()}
        for serial in serials:
            if serial not in found:
                if not found:
                    break
                raise UnknownName("Android device", serial, found)
        if not found:
            raise DeviceGone(
                "no Android device is connected; connect one with USB debugging switched on (its developer "
                "options), and look at: adb devices"
            )
        chosen = [found[serial] for serial in dict.fromkeys(serials)] or list(found.values())
        ready = [device for device in chosen if device.state == "device"]
        unready = [device for device in chosen if device.state != "device"]
        if unready and (serials or not ready):
            raise _not_ready(unready[0].serial, unready[0].state)
        for device in unready:
            tell(f"left out: {_not_ready(device.serial, device.state)}")
        return tuple(Phone(self, device.serial) for device in ready)


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
        doing = f"running {_short([command])}"
        result = self.adb.call("shell", "-T", "-n", line, serial=self.serial, timeout_s=timeout_s, doing=doing)
        end = f"\n{_END}\n"
        if not result.err.endswith(end):
            if end in result.out:
                raise AdbError(f"device {self.serial} is older than Android 7, whose adbd gives no exit status")
            self._lost(result, doing)
        return Result(result.code, result.out, result.err.removesuffix(end))

    def ask(self, command: str, timeout_s: float = ANSWER_S) -> Result:
        """`shell` for a command that only looks: tried again where the connection broke."""
        return _again(lambda: self.shell(command, timeout_s))

    def check(self, command: str, timeout_s: float = ANSWER_S) -> str:
        """What `ask` put out. Raises `AdbError` with its last words where its status is not 0."""
        result = self.ask(command, timeout_s)
        if result.code != 0:
            if _full(result.err + result.out):
                raise DiskFull(self._disk_full(_short([command])))
            raise AdbError(
                f"device {self.serial}: {_short([command])} failed with status {result.code} "
                f"({_last(result.err) or _last(result.out) or 'it said nothing'})"
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
            raise AdbError(f"device {self.serial}: {what} to {remote} failed ({_reason(result)})")

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
            raise AdbError(f"device {self.serial}: {what} failed ({_reason(result)})")

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
            raise _not_ready(self.serial, state)
        back = ", and is back now" if state == "device" else ""
        said = _last(result.err)
        because = f" ({_reason(result)})" if said and state == "device" else ""
        raise DeviceGone(
            f"device {self.serial} went away while {doing}{because}{back}; check its cable and its battery"
        )

    def _judge(self, result: Result, doing: str) -> None:
        """Raises where the connection failed in a transfer, not the transfer itself."""
        if _BROKEN.search(result.err + result.out) or self.state() != "device":
            self._lost(result, doing)


def parse_devices(text: str) -> tuple[Listed, ...]:
    """The lines of `adb devices -l`.

    A state may be two words (`no permissions`), and a serial number too: that of a phone that was found on the
    network a second time is `adb-NUMBER-abc (2)._adb-tls-connect._tcp`. A state we do not know is one word.
    """
    known = "|".join(("device", "host", "connecting", "rescue", "unknown", *_STATES))
    found = []
    for line in text.splitlines():
        match = re.match(rf"(.+?)\s+({known})(?=\s|$)(.*)", line) or re.match(r"(\S+)\s+([a-z]+)\b(.*)", line)
        if match and not line.startswith(("*", "List of devices", "adb ")):
            model = re.search(r"\bmodel:(\S+)", match[3])
            found.append(Listed(match[1], match[2], model[1] if model else ""))
    return tuple(found)


_END = "tfcompact: the command has ended"
"""Last line of a command's errors. When a device goes away the client may well end with status 0 and no word."""
_WRAPPED = "trap 'kill -9 -$$' HUP; ( {command}\n) & wait $!; c=$?; printf '\\n%s\\n' '{end}' >&2; exit $c"
"""A hang-up, which adbd sends when the client goes, ends all that the command started: nothing goes on to compute
beside the next measurement. A shell obeys a trap only while it waits for a job, hence the `&`. adbd makes the shell
the leader of a group of its own; where it were not, there would be no group `$$`, and no other is ended."""
_BROKEN = re.compile(r"error: closed|protocol fault|device '[^']*' not found|device offline|no devices|reset by peer")
_STATES = {
    "unauthorized": "has not allowed this computer; unlock its screen and accept the question about USB debugging",
    "authorizing": "is still asking whether to allow this computer; unlock its screen and answer, then try again",
    "offline": "is offline; unplug it and plug it in again, or: adb reconnect",
    "absent": "is not connected; look at: adb devices",
    "no permissions": "may not be opened by this user; install the udev rules (Debian: apt-get install "
    "android-sdk-platform-tools-common), and be in the group plugdev",
    "recovery": "is in recovery mode; start Android on it",
    "sideload": "is in sideload mode; start Android on it",
    "bootloader": "is in its boot loader; start Android on it",
}


def _not_ready(serial: str, state: str) -> AdbError:
    remedy = _STATES.get(state, f"is in state {state!r}, not ready; look at: adb devices")
    error = DeviceGone if state in ("offline", "absent") else AdbError
    return error(f"device {serial} {remedy}")


def _found(executable: str | Path | None) -> str:
    """The program's path: what was given, else on the PATH, else in the SDK that the environment names."""
    if executable is not None:
        path = shutil.which(str(executable))
        if path is None:
            raise UserError(f"there is no program {executable}; give the path of Android's adb with --adb")
        return path
    homes = [Path(os.environ[name]) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(name)]
    for candidate in ("adb", *(str(home / "platform-tools" / "adb") for home in homes)):
        path = shutil.which(candidate)
        if path is not None:
            return path
    raise UserError(
        "adb is not installed; install Android's platform-tools (Debian: apt-get install adb), or give its path "
        "with --adb"
    )


def _again(action: Callable[[], Answer]) -> Answer:
    """The answer of an action that may be repeated, tried a few times where the connection broke under it."""
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except (DeviceGone, TimedOut):
            time.sleep(attempt * PAUSE_S)
    return action()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the process, and what it started, unless it has ended."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


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


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").replace("\r\n", "\n")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _reason(result: Result) -> str:
    return re.sub(r"^(adb: )?(error: )?", "", _last(result.err) or _last(result.out)) or f"status {result.code}"


def _short(words: Sequence[str]) -> str:
    line = " ".join(" ".join(words).split())
    return line if len(line) <= 60 else f"{line[:57]}..."
