"""Installs what the tests of ARM64 code need: `python tests/native/environment.py`, as root, on Debian or Ubuntu.

Standard library only. A cross compiler with its C library, and QEMU's user-mode emulation with plugins (Debian 12 has
7.2; from version 9 on QEMU takes no plugins of interface version 1). Tests that need them are skipped where they are
missing.
"""

import shutil
import subprocess
import sys

PACKAGES = {
    "aarch64-linux-gnu-gcc": ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "libstdc++6-arm64-cross"),
    "qemu-aarch64": ("qemu-user",),
    "gcc": ("gcc", "libc6-dev"),
}
"""By the program that shows that they are there."""


def missing() -> list[str]:
    """The packages of every program that is not there."""
    return [package for program, packages in PACKAGES.items() if not shutil.which(program) for package in packages]


def hindrance() -> str | None:
    """Why ARM64 code cannot be made or run here, with the command that mends it, as one line; None where it can."""
    if sys.platform != "linux":
        return "ARM64 code is run by QEMU's user-mode emulation, which is for Linux"
    if packages := missing():
        return f"{' '.join(packages)} not installed; install with: python tests/native/environment.py"
    return None


def main() -> int:
    """Installs what is missing; 1 where apt-get cannot, or where that is not enough."""
    packages = missing()
    if packages:
        print(f"installing {' '.join(packages)}", flush=True)
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], check=True)
    if reason := hindrance():
        print(reason, file=sys.stderr)
    return int(hindrance() is not None)


if __name__ == "__main__":
    sys.exit(main())
