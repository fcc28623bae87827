"""The `adb` client: its program and server, one call of it, and the devices it lists. No TensorFlow here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tfcompact.errors import UserError

ANSWER_S = 30.0
"""Longest wait in seconds for a command that only looks, and for the client to answer at all."""


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

    @property
    def last_words(self) -> str:
        """The last line of its errors, else of its output; empty where it said nothing."""
        return _last(self.err) or _last(self.out)

    @property
    def reason(self) -> str:
        """Why it failed, for an error in one line."""
        return re.sub(r"^(adb: )?(error: )?", "", self.last_words) or f"status {self.code}"


@dataclass(frozen=True)
class Listed:
    """One line of `adb devices -l`. `state` is `device` where it is ready; all others but `serial` may be empty.

    `serial` is what the device is called everywhere. Where adb's own would be that of several devices, or is missing,
    it is the port (`usb:1-2`), and the call goes by `transport`, adb's number of the connection.
    """

    serial: str
    state: str
    model: str
    port: str = ""
    transport: str = ""


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
        self._transports: dict[str, str] = {}

    def words(self, serial: str | None, *words: str) -> list[str]:
        """The command line of one call, for one device or none."""
        server = [] if self.port is None else ["-P", str(self.port)]
        return [self.executable, *server, *self._device(serial), *words]

    def _device(self, serial: str | None) -> tuple[str, ...]:
        """What chooses the device of a call."""
        if serial is None:
            return ()
        return ("-t", self._transports[serial]) if serial in self._transports else ("-s", serial)

    def call(self, *words: str, serial: str | None = None, timeout_s: float = ANSWER_S, doing: str = "") -> Result:
        """What one call of the client left, whatever its exit status. `doing` is for the error.

        Raises `TimedOut`, and `Interrupted` where `interrupt` was called before it ended.
        """
        doing = doing or f"running adb {short(words)}"
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
            raise AdbError(f"adb cannot list devices ({result.last_words}); try: adb kill-server, then again")
        found = told_apart(parse_devices(result.out))
        self._transports = {d.serial: d.transport for d in found if d.serial == d.port and d.transport}
        return found

    def connect(self, address: str) -> None:
        """Joins a device that listens on the network, `host:port`. Raises `DeviceGone`."""
        result = self.call("connect", address)
        if not re.match(r"(already )?connected to", result.out):
            raise DeviceGone(
                f"no device answers at {address} ({_last(result.out) or result.last_words}); "
                "check that it is in the same network, and: adb tcpip 5555"
            )


def parse_devices(text: str) -> tuple[Listed, ...]:
    """The lines of `adb devices -l`.

    A state may be two words (`no permissions`), and a serial number too: that of a phone that was found on the
    network a second time is `adb-NUMBER-abc (2)._adb-tls-connect._tcp`. A state we do not know is one word.
    """
    known = "|".join(("device", "host", "connecting", "rescue", "unknown", *STATES))
    found = []
    for line in text.splitlines():
        match = re.match(rf"(.+?)\s+({known})(?=\s|$)(.*)", line) or re.match(r"(\S+)\s+([a-z]+)\b(.*)", line)
        if match and not line.startswith(("*", "List of devices", "adb ")):
            facts = dict(re.findall(r"\b(model|usb|transport_id):(\S+)", match[3]))
            port = f"usb:{facts['usb']}" if "usb" in facts else ""
            found.append(Listed(match[1], match[2], facts.get("model", ""), port, facts.get("transport_id", "")))
    return tuple(found)


NO_NUMBER = "(no serial number)"


def told_apart(devices: Sequence[Listed]) -> tuple[Listed, ...]:
    """The devices, those whose serial number is another's too, or none, called by their ports."""
    numbers = [device.serial for device in devices]
    named = []
    for device in devices:
        own = device.serial != NO_NUMBER and numbers.count(device.serial) == 1
        port = device.port or (f"transport:{device.transport}" if device.transport else "")
        named.append(device if own or not port else replace(device, serial=port, port=port))
    return tuple(named)


STATES = {
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


def not_ready(serial: str, state: str) -> AdbError:
    """The error that says why a device in that state cannot be used, and what to do."""
    remedy = STATES.get(state, f"is in state {state!r}, not ready; look at: adb devices")
    error = DeviceGone if state in ("offline", "absent") else AdbError
    return error(f"device {serial} {remedy}")


def short(words: Sequence[str]) -> str:
    """The words as one line of at most 60 characters, for an error."""
    line = " ".join(" ".join(words).split())
    return line if len(line) <= 60 else f"{line[:57]}..."


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


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the process, and what it started, unless it has ended."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").replace("\r\n", "\n")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
