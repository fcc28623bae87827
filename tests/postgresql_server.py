"""A PostgreSQL server of its own for the length of a `with` block, from Debian's package `postgresql`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def programs() -> Path | None:
    """The directory of the server's programs, None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def missing() -> str | None:
    """Why no server can be started here, None where one can."""
    if programs() is None:
        return "no PostgreSQL server: apt-get install postgresql"
    return None if os.geteuid() == 0 else "the server is run as another user, which takes root"


@contextlib.contextmanager
def started() -> Iterator[str]:
    """The URL of an empty database, which is gone afterwards."""
    at = programs()
    home = Path(tempfile.mkdtemp(prefix="postgresql-", dir="/tmp"))  # its socket's path has to be short
    shutil.chown(home, "postgres")

    def server(*words: str, check: bool = True) -> None:
        subprocess.run(["runuser", "-u", "postgres", "--", *words], check=check, cwd="/", capture_output=True)

    port = 20000 + os.getpid() % 20000
    try:
        server(f"{at}/initdb", "-D", f"{home}/data", "-A", "trust", "--no-sync")
        options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
        server(f"{at}/pg_ctl", "-D", f"{home}/data", "-o", options, "-l", f"{home}/log", "-w", "start")
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        server(f"{at}/pg_ctl", "-D", f"{home}/data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(home, ignore_errors=True)
