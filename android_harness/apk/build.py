"""Builds the app without Gradle and without the Android SDK: `python3 android_harness/apk/build.py --out app.apk`.

Standard library only. It takes Debian's `aapt`, `zipalign`, `apksigner`, `dx` and framework resources, the Kotlin
compiler of npm, and an `android.jar` of API 23; `python3 tests/android_app/environment.py` fetches them into
`build/android-app`. LiteRT's Android library is in none of these places: the app is compiled against `stubs/litert`,
which are left out of the APK. The result is the whole app, signed and fit to install, that classifies nothing and
says so: it shows that sources, resources and manifest hold together. For measurements build it with Gradle.

`dx` knows no way around `invokedynamic`, with which newer versions of Kotlin's standard library make lambdas, and
Android's runtime has not the class that this needs. So the APK is compiled by Kotlin 1.9, whose library has it in a
few functions for comparators and streams only, which the app does not call.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HARNESS = Path(__file__).resolve().parents[1]
APP, STUBS, SNIPPETS = HARNESS / "app", HARNESS / "stubs", HARNESS / "snippets"
TOOLS = HARNESS.parent / "build" / "android-app"
PACKAGE = "io.github.tfcompact.harness"
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
MIN_SDK, TARGET_SDK = 26, 36
"""Gradle's is 24; `dx` wants 26 where there is an `invokedynamic` at all."""
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Halves the time of a compiler that runs for seconds."""
PROGRAMS = ("java", "javac", "keytool", "aapt", "zipalign", "apksigner", "dexdump")
COMPILER = (
    "kotlin-compiler", "kotlin-stdlib", "kotlinx-coroutines-core-jvm", "kotlin-script-runtime", "kotlin-reflect",
    "annotations-13.0", "kotlin-daemon-client", "trove4j",
)  # fmt: skip


class BuildError(Exception):
    """One line: what is missing or what a tool said."""


@dataclass(frozen=True)
class Tools:
    """Where the compilers lie under the directory that the environment was made in."""

    home: Path = TOOLS
    kotlin_version: str = "1.9"

    @property
    def kotlin(self) -> Path:
        return self.home / "node_modules" / f"kotlin-compiler-{self.kotlin_version}" / "lib"

    @property
    def stdlib(self) -> Path:
        return self.kotlin / "kotlin-stdlib.jar"

    @property
    def android(self) -> Path:
        return self.home / "debian/usr/share/java/com.android.android-23.jar"

    @property
    def dx(self) -> Path:
        return self.home / "debian/usr/share/java/com.android.dx.jar"

    def missing(self) -> str | None:
        """What the build lacks, with the command that fetches it, as one line; None where it lacks nothing."""
        programs = [name for name in PROGRAMS if shutil.which(name) is None]
        files = [path for path in (self.stdlib, self.android, self.dx, FRAMEWORK) if not path.is_file()]
        if not programs and not files:
            return None
        lacking = ", ".join([*programs, *(path.name for path in files)])
        return f"missing: {lacking}; fetch them with: python3 tests/android_app/environment.py"


def run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """What a tool put out. Raises `BuildError` with all that it said where it failed."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{Path(str(command[0])).name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def kotlinc(tools: Tools, sources: Sequence[Path], classpath: Sequence[Path], out: Path) -> Path:
    """Compiles Kotlin to Java 8 bytecode without invokedynamic, which `dx` takes. Warnings are errors."""
    compiler = os.pathsep.join(str(tools.kotlin / f"{name}.jar") for name in COMPILER)
    path = os.pathsep.join(map(str, [tools.stdlib, *classpath]))
    options = [
        "-no-stdlib", "-no-reflect", "-jvm-target", "1.8", "-Xlambdas=class", "-Xsam-conversions=class",
        "-Xstring-concat=inline", "-Werror",
    ]  # fmt: skip
    program = ["java", *QUICK, "-Xmx1g", "-cp", compiler, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    run([*program, *options, "-classpath", path, "-d", out, *sources])
    return out


def javac(sources: Sequence[Path], classpath: Sequence[Path], out: Path) -> Path:
    """Compiles Java 8 sources."""
    out.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(map(str, classpath))
    run(["javac", "--release", "8", "-Xlint:-options", "-classpath", path, "-d", out, *sources])
    return out


def manifest(text: str) -> str:
    """The app's manifest as `aapt` needs it, with what Gradle fills in."""
    named, count = re.subn(r"<manifest\b", f'<manifest package="{PACKAGE}"', text, count=1)
    if count != 1:
        raise BuildError("AndroidManifest.xml has no <manifest>")
    return named.replace("${applicationId}", PACKAGE)


def resources(work: Path) -> Path:
    """Generates `R.java` of the app's resources. Returns the directory of its sources."""
    (work / "AndroidManifest.xml").write_text(manifest((APP / "src/main/AndroidManifest.xml").read_text()))
    sources = work / "R"
    sources.mkdir(exist_ok=True)
    run([*_package(work), "-m", "-J", sources])
    return sources


def classes(tools: Tools, work: Path) -> tuple[Path, Path, list[Path]]:
    """Compiles the app. Returns its classes, those of `R`, and the class path of stubs it was checked against."""
    android = javac(sorted((STUBS / "android").rglob("*.java")), [tools.android], work / "android-stubs")
    stubs = [android, tools.android]
    litert = kotlinc(tools, sorted((STUBS / "litert").rglob("*.kt")), stubs, work / "litert-stubs")
    r = javac(sorted(resources(work).rglob("*.java")), [], work / "R-classes")
    path = [r, litert, *stubs]
    return kotlinc(tools, sorted((APP / "src/main/kotlin").rglob("*.kt")), path, work / "classes"), r, path


def dex(tools: Tools, inputs: Sequence[Path], work: Path) -> Path:
    """`classes.dex` of directories of classes and Kotlin's standard library."""
    library = work / "stdlib"
    with zipfile.ZipFile(tools.stdlib) as archive:  # its META-INF holds classes of Java 9, which dx does not read
        archive.extractall(library, [name for name in archive.namelist() if name.startswith("kotlin/")])
    out = work / "classes.dex"
    program = ["java", *QUICK, "-Xmx1500m", "-cp", tools.dx, "com.android.dx.command.Main"]
    run([*program, "--dex", f"--min-sdk-version={MIN_SDK}", f"--output={out}", *inputs, library])
    return out


def build(tools: Tools, model: Path | None, out: Path, work: Path) -> Path:
    """The signed APK with `model` among its assets. `work` is an empty directory for what arises on the way."""
    if model is not None and (model.suffix != ".tflite" or not model.is_file()):
        raise BuildError(f"{model} is not a .tflite file; give --model PATH of an exported one")
    app, r, _ = classes(tools, work)
    code = dex(tools, [app, r], work)
    assets = work / "assets"
    assets.mkdir()
    if model is not None:
        shutil.copyfile(model, assets / model.name)
    bare, aligned, keys = work / "bare.apk", work / "aligned.apk", work / "debug.keystore"
    run([*_package(work), "-A", assets, "-0", "tflite", "-0", "arsc", "-F", bare])
    run(["aapt", "add", bare, code.name], cwd=work)
    run(["zipalign", "-f", "-p", "4", bare, aligned])
    run(
        [
            "keytool",
            "-genkeypair",
            "-keystore",
            keys,
            "-storepass",
            "android",
            "-alias",
            "debug",
            "-dname",
            "CN=debug",
        ]
        + ["-keyalg", "RSA", "-keysize", "2048", "-validity", "10000"]
    )
    signed = ["apksigner", "sign", "--ks", keys, "--ks-pass", "pass:android", "--min-sdk-version", str(MIN_SDK)]
    run([*signed, "--out", work / "signed.apk", aligned])
    run(["apksigner", "verify", "--min-sdk-version", str(MIN_SDK), work / "signed.apk"])
    out.parent.mkdir(parents=True, exist_ok=True)
    (work / "signed.apk").replace(out)
    return out


def _package(work: Path) -> list[str | Path]:
    sdk = ["--min-sdk-version", str(MIN_SDK), "--target-sdk-version", str(TARGET_SDK)]
    named = ["--version-code", "1", "--version-name", "0.1"]
    given = ["-M", work / "AndroidManifest.xml", "-S", APP / "src/main/res", "-I", FRAMEWORK]
    return ["aapt", "package", "-f", *given, *sdk, *named]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Builds the app offline, without LiteRT.")
    parser.add_argument("--model", type=Path, help="a .tflite file to put among the app's assets")
    parser.add_argument("--out", type=Path, default=TOOLS / "tfcompact-harness.apk", help="the APK to write")
    parser.add_argument("--tools", type=Path, default=TOOLS, help="where environment.py put the compilers")
    given = parser.parse_args()
    tools = Tools(given.tools)
    try:
        if lacking := tools.missing():
            raise BuildError(lacking)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=given.out.parent) as work:
            build(tools, given.model, given.out, Path(work))
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 2
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
