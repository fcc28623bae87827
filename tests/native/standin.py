"""A stand-in for a phone: a folder of this computer, with the methods of `adb.Phone` that back end `native` uses.

ARM64 programs are run by QEMU, in the place of a processor. It says nothing about Android.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


class LocalPhone:
    """`machine` is what `uname -m` says there; `root` is the emulated processor's root directory (`-L` of QEMU)."""

    def __init__(self, folder: Path, machine: str, root: Path | None = None, cpu: str = "cortex-a76") -> None:
        self.folder, self.commands, self.pushed = folder, [], []
        self._emulator = f"qemu-aarch64 -L {root} -cpu {cpu} " if machine == "aarch64" else ""
        tools = folder / "tools"
        tools.mkdir(parents=True)
        (tools / "uname").write_text(f"#!/bin/sh\necho {machine}\n")
        (tools / "uname").chmod(0o755)
        self._environment = {"PATH": f"{tools}:{os.environ['PATH']}"}

    def shell(self, command: str, timeout_s: float = 60.0) -> Result:
        """Runs a line of shell in the folder."""
        self.commands.append(command)
        line = command.replace("./ld-linux-aarch64", f"{self._emulator}./ld-linux-aarch64")
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def push_by_sha256(self, path: Path) -> str:
        """Copies one file."""
        return f"{self.push_files_by_sha256({path.name: path})}/{path.name}"

    def push_files_by_sha256(self, files: Mapping[str, Path]) -> str:
        """Copies files into a directory named by their content."""
        digest = hashlib.sha256(b"".join(name.encode() + path.read_bytes() for name, path in files.items()))
        directory = self.folder / digest.hexdigest()
        directory.mkdir(exist_ok=True)
        for name, path in files.items():
            shutil.copy(path, directory / name)
            self.pushed.append(name)
        return str(directory)

    def pull(self, remote: str, local: Path) -> None:
        """Copies a file back."""
        shutil.copy(remote, local)
