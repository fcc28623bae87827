"""Makes the environment of torchvision's and timm's networks: `python tests/torch_reference/environment.py`.

Standard library only. PyTorch is a gigabyte and nothing of ours needs it, so it stays out of the main environment;
tests that compare with it are skipped where `.judges/torch` is missing. torchvision's compiled part does not fit
every PyTorch; its network definitions are Python and do (see dump.py), hence `--no-deps`.
"""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".judges/torch"
STEPS = (
    (
        "torch==2.13.0",
        "numpy==2.3.5",
        "safetensors==0.8.0",
        "pyyaml==6.0.3",
        "pillow==12.0.0",
        "huggingface-hub==0.36.0",
    ),
    ("--no-deps", "timm==1.0.31", "torchvision==0.29.1"),
)


def python() -> Path:
    """The environment's interpreter, whether or not it has been made yet."""
    return HOME / "bin" / "python"


def hindrance() -> str | None:
    """Why the comparison cannot run, with the command that mends it, as one line; None where it can."""
    stamp = HOME / "stamp"
    if not (stamp.is_file() and stamp.read_text() == _digest() and python().exists()):
        return ".judges/torch is missing or outdated; make it with: python3.11 tests/torch_reference/environment.py"
    return None


def main() -> int:
    """Makes it from nothing where it is missing or outdated; the stamp is written last."""
    if hindrance() is None:
        return 0
    print("making .judges/torch (once)", flush=True)
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=True, symlinks=True)
    for step in STEPS:
        pip = [python(), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *step]
        subprocess.run(pip, check=True)
    (HOME / "stamp").write_text(_digest())
    return 0


def _digest() -> str:
    return hashlib.sha256(repr(STEPS).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
