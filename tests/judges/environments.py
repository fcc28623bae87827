"""Makes the judges' environments: `python3.11 tests/judges/environments.py` (standard library only).

Each judge is somebody else's reader of our files. tflite-support cannot live in one process with a current
TensorFlow and ends at Python 3.11, and mediapipe brings numpy and OpenCV of its own; so each gets a virtual
environment under `.judges/`, from a lock file beside this script. A stamp with the lock's hash is written last:
an environment with the right stamp is complete, and any other one is made again from nothing.
"""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1] / ".judges"
IMPORTS = {"task-library": "tflite_support.task.vision", "mediapipe": "mediapipe.tasks.python.vision"}
PACKAGES = {"task-library": "libusb-1.0-0", "mediapipe": "libegl1 libgles2 libgl1 libglib2.0-0"}
"""Debian's names of the system libraries that the wheels link to but do not bring."""
PYTHON = (3, 11)


def lock(name: str) -> Path:
    """The judge's pinned requirements."""
    return HERE / f"requirements-{name}.txt"


def python(name: str) -> Path:
    """The judge's interpreter, whether or not it has been made yet."""
    return ROOT / name / "bin" / "python"


def ready(name: str) -> bool:
    """Whether the environment is complete and made from the lock file as it is now."""
    stamp = ROOT / name / "stamp"
    return stamp.is_file() and stamp.read_text() == _digest(name) and python(name).exists()


def make(name: str) -> None:
    """Makes the environment from nothing. Raises `CalledProcessError` where pip fails; nothing is stamped then."""
    home = ROOT / name
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True, symlinks=True)
    pip = [python(name), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]
    subprocess.run([*pip, "--only-binary", ":all:", "--requirement", lock(name)], check=True)
    (home / "stamp").write_text(_digest(name))


def hindrance(name: str) -> str | None:
    """What keeps the judge from running, with the command that mends it, as one line; None where it can run."""
    if not ready(name):
        return f".judges/{name} is missing or outdated; make it with: make judges"
    command = [python(name), "-c", f"import {IMPORTS[name]}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    reason = done.stderr.strip().rpartition("\n")[2]
    return f".judges/{name} does not load ({reason}); try: apt-get install {PACKAGES[name]}"


def main() -> int:
    """Makes what is missing or outdated. Exit status 2, with one line, where a judge cannot run on this machine."""
    if sys.version_info[:2] != PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        print(f"the judges need Python 3.11 (tflite-support ends there), this is {found}", file=sys.stderr)
        return 2
    hindrances = []
    for name in IMPORTS:
        if not ready(name):
            print(f"making .judges/{name} (once)", flush=True)
            make(name)
        hindrances.append(hindrance(name))
    for line in filter(None, hindrances):
        print(line, file=sys.stderr)
    return 2 if any(hindrances) else 0


def _digest(name: str) -> str:
    return hashlib.sha256(lock(name).read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
