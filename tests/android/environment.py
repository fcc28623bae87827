"""Makes what the loop with a real `adbd` needs: `python tests/android/environment.py`, as root, on Debian.

Standard library only. The client `adb` and the emulator `qemu-aarch64` are installed with apt-get. The daemon `adbd`
is in no release that has our Python, only in bookworm-backports and newer suites; it and its libraries are unpacked
into `build/android/adbd` and nothing of the system is touched. Tests that need it are skipped where it is missing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / "build/android"
ADBD = HOME / "adbd"
INSTALLED = {"adb": "adb", "qemu-aarch64": "qemu-user", "unshare": "util-linux"}
"""Programs the loop starts, and the packages they are in."""
SUITES = ("bookworm-backports", "trixie")
"""Where `adbd` may be, besides the suites that the system knows."""


def daemon() -> Path:
    """The unpacked `adbd`, whether or not it has been made yet."""
    return ADBD / "usr/lib/android-sdk/platform-tools/adbd"


def hindrance() -> str | None:
    """Why the loop cannot run here, with the command that mends it, as one line; None where it can."""
    if os.geteuid() != 0:
        return "the loop with a real adbd needs root (a network namespace, mounts and chroot)"
    missing = [package for program, package in INSTALLED.items() if shutil.which(program) is None]
    stamp = HOME / "stamp"
    if missing or not (stamp.is_file() and stamp.read_text() == _digest()):
        what = ", ".join(missing) or "build/android"
        return f"{what} is missing or outdated; make it with: python tests/android/environment.py"
    trial = _inside("true")
    if trial:
        return f"this system gives no namespaces ({trial}), and the loop's devices live in one"
    return None


def foreign_hindrance() -> str | None:
    """Why a device of the loop cannot run ARM64 programs, as one line; None where it can."""
    trial = _inside("mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc")
    return f"this kernel has no binfmt_misc for a namespace, as Linux has since 6.7 ({trial})" if trial else None


def _inside(command: str) -> str | None:
    """What was said against running a line of shell as a device's would be; None where it ran."""
    words = ["unshare", "--net", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-ec"]
    line = f"mount --make-rprivate /; mount -t proc proc /proc; {command}"
    done = subprocess.run([*words, line], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2] or "no reason given"


def main() -> int:
    """Makes it from nothing where it is missing or outdated; the stamp is written last."""
    if hindrance() is None:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print("tests/android/environment.py needs root, and apt-get", file=sys.stderr)
        return 2
    missing = [package for program, package in INSTALLED.items() if shutil.which(program) is None]
    if missing:
        print(f"installing {', '.join(missing)}", flush=True)
        _run(["apt-get", "update", "-qq"])
        _run(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *missing])
    print("making build/android (once)", flush=True)
    shutil.rmtree(HOME, ignore_errors=True)
    packages = HOME / "packages"
    packages.mkdir(parents=True)
    options = _suite_with_adbd()
    _run(["apt-get", *options, "-qq", "download", *_closure("adbd", options)], packages)
    for package in sorted(packages.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(ADBD)])
    shutil.rmtree(packages)
    found = sorted(ADBD.rglob("adbd"))
    programs = [file for file in found if file.is_file() and os.access(file, os.X_OK)]
    if not programs:
        print("the package adbd holds no program adbd", file=sys.stderr)
        return 1
    if programs[0] != daemon():
        daemon().parent.mkdir(parents=True, exist_ok=True)
        daemon().symlink_to(os.path.relpath(programs[0], daemon().parent))
    (HOME / "stamp").write_text(_digest())
    return 0


def _suite_with_adbd() -> list[str]:
    """apt-get's options under which `adbd` is known: none where the system's own suites have it."""
    if _known([]):
        return []
    text = _out(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Component: main"])
    mirrors = [line.split() for line in text.splitlines() if re.fullmatch(r"[a-z]+ \S+", line)]
    if not mirrors:
        raise SystemExit("apt-get knows no mirror to ask for adbd")
    release, mirror = mirrors[0]
    for suite in SUITES:
        state = HOME / "apt" / suite
        (state / "lists/partial").mkdir(parents=True)
        keyring = next(iter(sorted(Path("/usr/share/keyrings").glob("debian-archive-keyring.*"))), None)
        signed = f"[signed-by={keyring}] " if keyring else ""
        lines = [f"deb {signed}{mirror} {name} main\n" for name in dict.fromkeys((release, suite))]
        (state / "sources.list").write_text("".join(lines))
        options = [
            f"-oDir::Etc::sourcelist={state / 'sources.list'}",
            "-oDir::Etc::sourceparts=/dev/null",
            f"-oDir::State::lists={state / 'lists'}",
            f"-oAPT::Default-Release={suite}",
            "-oAPT::Sandbox::User=root",
        ]
        _run(["apt-get", *options, "-qq", "update"])
        if _known(options):
            return options
    raise SystemExit(f"no suite of {', '.join(SUITES)} has adbd")


def _known(options: Sequence[str]) -> bool:
    return bool(_out(["apt-cache", *options, "madison", "adbd"]).strip())


def _closure(package: str, options: Sequence[str]) -> list[str]:
    """The package and what it depends on, but for what the system has: that is mounted into the device.

    Android's own libraries are taken in any case, since those of the system's adb are of another release.
    """
    has = set(_out(["dpkg-query", "--show", "--showformat", "${Package}\n"]).split())
    installed = {name for name in has if not name.startswith("android-")}
    wanted = [package]
    for name in wanted:
        depends = _out(["apt-cache", *options, "depends", "--important", name])
        for found in re.findall(r"^  Depends: ([a-z0-9.+-]+)$", depends, re.MULTILINE):
            if found not in installed and found not in wanted:
                wanted.append(found)
    return wanted


def _run(command: Sequence[str], where: Path | None = None) -> None:
    subprocess.run(command, cwd=where, check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def _out(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _digest() -> str:
    return hashlib.sha256(repr((SUITES, INSTALLED)).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
