"""A phone that needs neither root nor adb: `StandIn(folder)`, around adb_standin.sh. Standard library only."""

from __future__ import annotations

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Kept:
    """Keeps rows and logs in memory; `then` hears of each row. What failed is in `failed`, by its key."""

    def __init__(self, then=lambda row, log: None) -> None:
        self.rows, self.failed, self.then = [], {}, then

    def row(self, row, log=None) -> None:
        self.rows.append((row, log))
        self.then(row, log)

    def failure(self, key: str, log: str) -> Path:
        self.failed[key] = log
        return Path(f"{key}.failed.log")


class StandIn:
    """The stand-in client with one phone, in a folder of its own; `client` is to be given as adb's path."""

    def __init__(self, folder: Path, serial: str = "R58M12ABCDE") -> None:
        self.folder, self.serial = folder, serial
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(HERE / "standins", folder, dirs_exist_ok=True)
        (folder / "storage").mkdir()
        self.client = folder / "adb"
        shutil.copyfile(HERE / "adb_standin.sh", self.client)
        self.client.chmod(0o755)
        self.devices(f"{serial}  device usb:1-2 product:loop model:Loop_Device device:loop transport_id:1")

    def devices(self, *lines: str) -> None:
        """What `adb devices -l` lists from now on."""
        self.write("devices", "".join(f"{line}\n" for line in lines))

    def write(self, name: str, text: str = "") -> None:
        """Makes a file that steers it."""
        (self.folder / name).write_text(text)

    def remove(self, name: str) -> None:
        """Removes such a file."""
        (self.folder / name).unlink()

    def calls(self, word: str) -> list[str]:
        """The command lines so far that have this word."""
        file = self.folder / "calls"
        return [line for line in file.read_text().splitlines() if word in line.split()] if file.exists() else []

    def stored(self) -> list[str]:
        """The files in the phone's storage, below our directory there."""
        home = self.folder / "storage/tfcompact"
        return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
