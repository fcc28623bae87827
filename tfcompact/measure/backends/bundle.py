"""A directory with all that runs a `.tflite` file on one kind of processor: program, runtime, loader and C library.

No TensorFlow here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcompact.errors import UnknownName, UserError
from tfcompact.files import cache_directory

HARNESS = Path(__file__).resolve().parents[3] / "android_harness"
RUNTIME_VERSION = "2.3.0"
"""Of ai-edge-litert. runner.c declares the C interface of this version."""
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-s")


@dataclass(frozen=True)
class Target:
    """How a bundle is made for one kind of processor.

    `libraries` are those that runner and runtime ask for; the compiler says where they are. `packages` are Debian's
    for the compiler. `sha256` is of the wheel for `tag`, whose libLiteRt.so is taken.
    """

    machine: str
    compiler: str
    packages: str
    loader: str
    tag: str
    sha256: str
    libraries: tuple[str, ...] = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1")


TARGETS = {
    "aarch64": Target(
        machine="aarch64",
        compiler="aarch64-linux-gnu-gcc",
        packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstdc++6-arm64-cross",
        loader="ld-linux-aarch64.so.1",
        tag="manylinux_2_27_aarch64",
        sha256="853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae",
    ),
    "x86_64": Target(
        machine="x86_64",
        compiler="x86_64-linux-gnu-gcc",
        packages="gcc libc6-dev",
        loader="ld-linux-x86-64.so.2",
        tag="manylinux_2_27_x86_64",
        sha256="1f15078a6725d2357d9de9221664c29afa0545d807559c5f7199ce5e40b96b23",
    ),
}
"""By what `uname -m` says. x86_64 is that of Android's emulator and of some tablets, and this computer's in tests."""


@dataclass(frozen=True)
class Bundle:
    """A directory that holds all that runs a file on one kind of processor; `digest` stands for its content."""

    directory: Path
    target: Target
    digest: str

    @property
    def files(self) -> dict[str, Path]:
        """Every file, by its name in the directory."""
        return {path.name: path for path in sorted(self.directory.iterdir())}

    @property
    def start(self) -> list[str]:
        """The words that start the runner from within the directory; its other arguments follow."""
        return [f"./{self.target.loader}", "--library-path", ".", "./runner", "./libLiteRt.so"]


def build_bundle(directory: Path | None = None, machine: str = "aarch64") -> Bundle:
    """The bundle for this kind of processor, below `directory` (default: the cache), made where it is not there yet.

    A bundle appears by rename, whole, under a name with the hash of all it is made from: source, options, compiler,
    runtime. Raises `UserError` with the command that provides what is missing.
    """
    if machine not in TARGETS:
        raise UnknownName("processor", machine, TARGETS)
    target = TARGETS[machine]
    source = harness_source("native/runner.c")
    compiler = _compiler(target)
    home = (directory or cache_directory()) / "native"
    facts = [source.read_text(), *FLAGS, RUNTIME_VERSION, target.sha256, _said([compiler, "--version"])]
    digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    final = home / f"{machine}-{digest[:16]}"
    bundle = Bundle(final, target, digest)
    if final.is_dir():
        return bundle
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
        made = Path(scratch) / "bundle"
        made.mkdir()
        compile_c(compiler, source, made / "runner", *FLAGS, libraries=("-ldl",))
        for name in (target.loader, *target.libraries):
            shutil.copyfile(_library(compiler, name, target), made / name)
        _extract_runtime(target, home, made / "libLiteRt.so")
        for name in ("runner", target.loader):
            (made / name).chmod(0o755)
        appear(made, final)
    return bundle


def harness_source(name: str) -> Path:
    """A source file of the harness. Raises `UserError` where tfcompact was installed without it."""
    path = HARNESS / name
    if not path.is_file():
        raise UserError(
            f"{path} is missing; this needs tfcompact's source tree: run it from a checkout, after pip install -e ."
        )
    return path


def compile_c(compiler: str, source: Path, output: Path, *flags: str, libraries: Sequence[str] = ()) -> None:
    """Compiles one C file. Raises `UserError` with the compiler's first complaint."""
    command = [compiler, *flags, "-o", str(output), str(source), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise UserError(f"{compiler} cannot compile {source.name} ({lines[0].strip()}); is its C library installed?")


def appear(made: Path, final: Path) -> None:
    """Renames a directory into place; where another process was first, that one's stays."""
    try:
        made.rename(final)
    except OSError:
        if not final.is_dir():
            raise


def _compiler(target: Target) -> str:
    """The compiler for this processor; `gcc` too, where it is this computer's."""
    names = (target.compiler, "gcc") if platform.machine() == target.machine else (target.compiler,)
    for name in names:
        if found := shutil.which(name):
            return found
    raise UserError(f"there is no {target.compiler}; install it: apt-get install {target.packages}")


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _library(compiler: str, name: str, target: Target) -> Path:
    """Where the compiler has a library of the processor it compiles for."""
    path = Path(_said([compiler, f"-print-file-name={name}"]).strip())
    if not path.is_absolute() or not path.is_file():
        raise UserError(f"{compiler} knows no {name}; install it: apt-get install {target.packages}")
    return path


def _extract_runtime(target: Target, home: Path, output: Path) -> None:
    """Copies libLiteRt.so out of ai-edge-litert.

    That is the installed one, if it is of that version and for that processor, else its wheel.
    """
    installed = importlib.util.find_spec("ai_edge_litert")
    if (
        installed is not None
        and installed.origin is not None
        and platform.machine() == target.machine
        and sys.platform == "linux"
        and importlib.metadata.version("ai-edge-litert") == RUNTIME_VERSION
    ):
        shutil.copyfile(Path(installed.origin).parent / "libLiteRt.so", output)
        return
    with zipfile.ZipFile(_wheel(target, home)) as wheel, output.open("wb") as file:
        file.write(wheel.read("ai_edge_litert/libLiteRt.so"))


def _wheel(target: Target, home: Path) -> Path:
    """The wheel for this processor, by pip, checked against the hash known here and kept."""
    name = f"ai_edge_litert-{RUNTIME_VERSION}-cp311-cp311-{target.tag}.whl"
    kept = home / name
    if kept.is_file() and _sha256(kept) == target.sha256:
        return kept
    with tempfile.TemporaryDirectory(dir=home, prefix=".fetching-") as scratch:
        options = ("--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--platform", target.tag)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", *options]
        wanted = f"ai-edge-litert=={RUNTIME_VERSION}"
        done = subprocess.run([*command, "-d", scratch, wanted], capture_output=True, text=True, check=False)
        fetched = Path(scratch) / name
        if done.returncode != 0 or not fetched.is_file():
            said = done.stderr.strip().rpartition("\n")[2] or "pip said nothing"
            raise UserError(f"pip cannot download {wanted} for {target.tag} ({said}); or put {name} into {home}")
        if (found := _sha256(fetched)) != target.sha256:
            raise UserError(
                f"{name} has SHA-256 {found[:12]}…, not {target.sha256[:12]}…; it is not the one known here"
            )
        fetched.replace(kept)
    return kept


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
