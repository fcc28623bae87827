"""Fetches what compiles the Android app without its SDK: `python3 tests/android_app/environment.py`.

Standard library only. Debian's packages are installed where this runs as root; `dx` and an `android.jar`, which the
current Debian no longer has, are unpacked from Debian 11's packages into `build/android-app`, by way of the mirror
that apt is set up with; Kotlin's compilers come from npm, 180 MB. Tests that need all this are skipped without.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / "build" / "android-app"
DEBIAN = ("aapt", "apksigner", "zipalign", "dexdump", "android-framework-res", "default-jdk-headless", "npm")
PROGRAMS = ("aapt", "apksigner", "zipalign", "dexdump", "javac", "npm")
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
OLD_SUITE, OLD = "bullseye", ("dalvik-exchange", "libandroid-23-java")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NPM = ("kotlin-compiler-2.4@npm:kotlin-compiler@2.4.20", "kotlin-compiler-1.9@npm:kotlin-compiler@1.9.25")


def hindrance() -> str | None:
    """Why the app cannot be compiled, with the command that mends it, as one line; None where it can."""
    stamp = HOME / "stamp"
    if not (stamp.is_file() and stamp.read_text() == _digest()) or _absent():
        return "build/android-app is missing or outdated; make it with: python3 tests/android_app/environment.py"
    return None


def main() -> int:
    """Fetches all of it where something is missing or outdated; the stamp is written last."""
    if hindrance() is None:
        return 0
    print("making build/android-app (once)", flush=True)
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "stamp").unlink(missing_ok=True)
    if absent := _absent():
        if os.geteuid() != 0:
            print(f"{', '.join(absent)} missing; as root: apt-get install {' '.join(DEBIAN)}", file=sys.stderr)
            return 2
        wanted = [
            package for package in DEBIAN if package != "npm" or "npm" in absent
        ]  # node may come from elsewhere
        if "javac" not in absent:
            wanted.remove("default-jdk-headless")
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted], check=True)
    _unpack_old_packages()
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--prefix", HOME, *NPM]
    subprocess.run(install, check=True)
    (HOME / "stamp").write_text(_digest())
    return 0


def _absent() -> list[str]:
    programs = [program for program in PROGRAMS if shutil.which(program) is None]
    return programs + ([] if FRAMEWORK.is_file() else [FRAMEWORK.name])


def _unpack_old_packages() -> None:
    """Downloads with lists and sources of their own, so that the system's apt never hears of the old suite."""
    work = HOME / "apt"
    (work / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {OLD_SUITE} main\n")
    apt = ["apt-get", "-q"]
    for option in (
        f"Dir::Etc::SourceList={work / 'sources.list'}",
        "Dir::Etc::SourceParts=/dev/null",
        f"Dir::State::Lists={work / 'lists'}",
        "APT::Get::List-Cleanup=0",
        "Acquire::Check-Valid-Until=false",
        "APT::Sandbox::User=root",
    ):
        apt += ["-o", option]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *OLD], cwd=work, check=True)
    for package in work.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, HOME / "debian"], check=True)
    shutil.rmtree(work)


def _mirror() -> str:
    """The address that this system's apt fetches Debian's main archive from."""
    printed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(SUITE) $(COMPONENT)"],
        check=True,
        capture_output=True,
        text=True,
    )
    for line in printed.stdout.splitlines():
        address, *rest = line.split()
        if "Debian" in rest and "main" in rest and not any("security" in word for word in (address, *rest)):
            return address
    raise SystemExit("apt knows no Debian archive on this system; set one up in /etc/apt, then: apt-get update")


def _digest() -> str:
    return hashlib.sha256(repr((DEBIAN, OLD_SUITE, OLD, NPM)).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
