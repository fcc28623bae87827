"""The first load and run of a file, in a process of its own.

A damaged or hostile file can end the process that runs it: kernels trust what a file says. A file that was not made
in this process is tried in another first, which may die. The most memory that it took is known then, too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from tfcompact.errors import UserError

RESOLVERS = {
    "xnnpack": "BUILTIN",  # what every device runs unless told otherwise
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",  # the optimized kernels below it
    "reference": "BUILTIN_REF",  # the plain C++ that defines what each operator means
}
"""The delegates, with LiteRT's names for them."""
MOST_BYTES = 4 << 30
"""Memory that a file may take, beyond what any network of the zoo does."""
MOST_SECONDS = 600
"""Time that loading it and one inference may take, by the slowest kernels too."""


def first_run(path: Path | str, *, threads: int = 1, delegate: str = "xnnpack") -> float | None:
    """The most memory that a fresh process held in which this file was loaded and run once, in MB of 10^6 bytes.

    It is the peak resident set (`VmHWM`), so Python, NumPy and the runtime are in it: some 50 MB that any file pays.
    None where the system has no `/proc`. (`ru_maxrss` will not do: across fork and exec a child inherits its
    parent's peak, and the parent may have TensorFlow loaded.) A file is tried once, until it is another.
    Raises `UserError` where the runtime refuses it, or the process died of it.
    """
    try:
        facts = Path(path).stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
    if not Path(path).is_file():
        raise UserError(f"{path} is no file; give the path of an exported .tflite file")
    return _tried(str(path), threads, delegate, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=256)
def _tried(path: str, threads: int, delegate: str, size: int, changed: int) -> float | None:  # noqa: ARG001
    """What `first_run` returns, of a file of this size and time."""
    command = [sys.executable, "-c", _CHILD, path, str(threads), RESOLVERS[delegate], str(MOST_BYTES)]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=MOST_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{path} was not run in {MOST_SECONDS} s; it is damaged: export it again") from None
    if child.returncode < 0:
        raise UserError(died(path, child.returncode))
    if child.returncode > 0:
        reason = " ".join((child.stdout or child.stderr.strip().rpartition("\n")[2]).split())
        raise UserError(f"{path} cannot be run with delegate {delegate} ({reason}); export it again")
    found = child.stdout.split()
    return int(found[0]) * 1024 / 1e6 if found else None


def died(path: str, status: int) -> str:
    """The line about a file whose process ended with this status, which is minus the signal's number."""
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"status {status}"
    return f"{path} ended the process that ran it ({name}); it is damaged: export it again"


# Nothing of tfcompact is imported: it would be counted.
_CHILD = """
import re, resource, sys
from ai_edge_litert.interpreter import Interpreter, OpResolverType
path, threads, resolver, most = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_DATA, (int(most), int(most)))
try:
    interpreter = Interpreter(
        path, num_threads=int(threads), experimental_op_resolver_type=OpResolverType[resolver]
    )
    interpreter.allocate_tensors()
    interpreter.invoke()
except (ValueError, RuntimeError, MemoryError) as error:
    print(error or "not enough memory")
    sys.exit(1)
try:
    status = open("/proc/self/status").read()
except OSError:
    sys.exit()
print(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])
"""
