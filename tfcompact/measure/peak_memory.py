"""The most memory that running a file takes, found in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.tflite import runtime


def peak_memory_mb(path: Path, *, threads: int = 1, delegate: str = "xnnpack") -> float | None:
    """The most memory a fresh process ever held that loaded this file and ran it five times, in MB of 10^6 bytes.

    It is the peak resident set (`VmHWM`), so Python, NumPy and the runtime are in it: some 50 MB that any file pays.
    None where the system has no `/proc`. (`ru_maxrss` will not do: across fork and exec a child inherits its
    parent's peak, and the parent may have TensorFlow loaded.)
    """
    if not Path("/proc/self/status").exists():
        return None
    resolver = runtime.DELEGATES[delegate].name
    command = [sys.executable, "-c", _MEMORY_PROBE, str(path), str(threads), resolver]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        last = child.stderr.strip().rpartition("\n")[2]
        raise UserError(f"{path} could not be run in a process of its own ({last}); export it again")
    return int(child.stdout) * 1024 / 1e6


# Nothing of tfcompact is imported: it would be counted.
_MEMORY_PROBE = """
import re, sys
from ai_edge_litert.interpreter import Interpreter, OpResolverType
path, threads, resolver = sys.argv[1:]
interpreter = Interpreter(
    path, num_threads=int(threads), experimental_op_resolver_type=OpResolverType[resolver]
)
interpreter.allocate_tensors()
for _ in range(5):
    interpreter.invoke()
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
