"""Devices for the tests: a real `adbd` each, in a network of its own where only loopback is up.

The daemon listens on every address, hence the network namespace; the client is started inside it too, by `client`,
a script to be given as `adb`'s path. The tests themselves stay outside. Standard library only.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

from android.environment import ADBD

HERE = Path(__file__).resolve().parent
SERVER_PORT = 5137
FIRST_PORT = 15555
"""Not 5555: the client takes a device there for an emulator."""


class Network:
    """A network namespace with an adb server in it, when asked for the first time, and any number of devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices: list[LoopDevice] = []
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 100000"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "up\n":
            raise RuntimeError("no loopback in the new network namespace")
        self.enter = ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]
        self.client = folder / "adb"
        self.client.write_text(f'#!/bin/sh\nexec {" ".join(self.enter)} {shutil.which("adb")} "$@"\n')
        self.client.chmod(0o755)

    def start(self, *, megabytes: int = 64, processor: str = "") -> LoopDevice:
        """A new device whose /data/local/tmp holds so many MB; it answers when this returns.

        It runs this computer's programs, or, with `processor` arm64, those of a phone too.
        """
        device = LoopDevice(self, FIRST_PORT + len(self.devices), megabytes, processor)
        self.devices.append(device)
        return device

    def close(self) -> None:
        """Ends the server and every device."""
        for device in self.devices:
            device.yank()
        subprocess.run([self.client, "-P", str(SERVER_PORT), "kill-server"], check=False, capture_output=True)
        self._holder.kill()
        self._holder.wait()


class LoopDevice:
    """One device: `serial` is its address. Its processes all end with `yank`, as if its cable were pulled."""

    def __init__(self, network: Network, port: int, megabytes: int, processor: str) -> None:
        self.serial = f"127.0.0.1:{port}"
        self._network, self._port, self._megabytes, self._processor = network, port, megabytes, processor
        self._process: subprocess.Popen[bytes] | None = None
        self.plug()

    def plug(self) -> None:
        """Starts it, with nothing in its storage, and joins it to the server."""
        root = self._network.folder / f"root{self._port}"
        root.mkdir(exist_ok=True)
        with (self._network.folder / f"adbd{self._port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._network.enter, "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork",
                 "--kill-child", "sh", HERE / "device.sh", root, str(self._port), str(self._megabytes), ADBD,
                 HERE / "standins", self._processor],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            connect = [self._network.client, "-P", str(SERVER_PORT), "connect", self.serial]
            said = subprocess.run(connect, capture_output=True, text=True, check=False).stdout
            state = [self._network.client, "-P", str(SERVER_PORT), "-s", self.serial, "get-state"]
            answer = subprocess.run(state, capture_output=True, text=True, check=False).stdout
            if "connected to" in said and answer == "device\n":
                return
            time.sleep(0.2)
        raise RuntimeError(f"{self.serial} does not come up ({said.strip()}); its log is adbd{self._port}.log")

    def yank(self) -> None:
        """Ends its processes at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
