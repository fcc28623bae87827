"""`./gradlew`: Gradle is fetched once, its SHA-256 compared before any of it runs, and nothing partial is kept."""

import hashlib
import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[1] / "android_harness" / "app"
pytestmark = pytest.mark.skipif(
    not (shutil.which("curl") or shutil.which("wget")) or not shutil.which("unzip"),
    reason="needs curl and unzip: apt-get install curl unzip",
)


@pytest.fixture
def project(tmp_path):
    """A folder with a space in its name, which has the script, and a distribution that says what it was asked."""
    place = tmp_path / "my project"
    (place / "gradle/wrapper").mkdir(parents=True)
    shutil.copy(APP / "gradlew", place)
    archive = tmp_path / "gradle-9.5.0-bin.zip"
    with zipfile.ZipFile(archive, "w") as file:
        program = zipfile.ZipInfo("gradle-9.5.0/bin/gradle")
        program.create_system, program.external_attr = 3, (stat.S_IFREG | 0o755) << 16
        file.writestr(program, '#!/bin/sh\necho "ran in $(pwd): $*"\n')
    return place, archive


def call(project, *words, sha256=None, url=None):
    place, archive = project
    own = (APP / "gradle/wrapper/gradle-wrapper.properties").read_text().splitlines()
    named = {
        "distributionUrl": (url or archive.as_uri()).replace(":", "\\:"),
        "distributionSha256Sum": sha256 or hashlib.sha256(archive.read_bytes()).hexdigest(),
    }
    lines = [f"{key}={named.get(key, value)}" for key, _, value in (line.partition("=") for line in own)]
    (place / "gradle/wrapper/gradle-wrapper.properties").write_text("\n".join(lines) + "\n")
    environment = os.environ | {"GRADLE_USER_HOME": str(place.parent / "gradle home")}
    done = subprocess.run([place / "gradlew", *words], capture_output=True, text=True, env=environment, cwd="/")
    kept = sorted(p.name for p in (place.parent / "gradle home").rglob("*") if p.is_dir() and "9.5.0-bin" in p.name)
    return done, kept


def test_gradle_is_fetched_once_and_run_with_the_words_given(project):
    done, kept = call(project, "assembleRelease", "--info x")
    assert done.stdout == f"ran in {project[0]}: assembleRelease --info x\n"
    assert "fetches file:" in done.stderr
    assert len(kept) == 1
    sha256 = hashlib.sha256(project[1].read_bytes()).hexdigest()
    project[1].unlink()
    again, _ = call(project, "tasks", sha256=sha256)
    assert (again.returncode, again.stdout, again.stderr) == (0, f"ran in {project[0]}: tasks\n", "")


@pytest.mark.parametrize("fault", ["another file", "cut off", "not there"])
def test_what_is_not_the_distribution_is_not_run_and_not_kept(project, fault):
    archive = project[1]
    sha256, url = hashlib.sha256(archive.read_bytes()).hexdigest(), archive.as_uri()
    if fault == "another file":
        archive.write_bytes(archive.read_bytes() + b"x")
    elif fault == "cut off":
        archive.write_bytes(archive.read_bytes()[:-9])
    else:
        archive.unlink()
    done, kept = call(project, "tasks", sha256=sha256, url=url)
    assert (done.returncode, done.stdout, kept) == (1, "", [])
    words = "cannot be fetched" if fault == "not there" else "nothing of it was run"
    assert words in done.stderr.splitlines()[-1]


def test_the_version_is_one_and_its_checksum_is_there():
    properties = dict(
        line.split("=", 1) for line in (APP / "gradle/wrapper/gradle-wrapper.properties").read_text().splitlines()
    )
    assert properties["distributionUrl"].endswith("/gradle-9.5.0-bin.zip")
    assert len(bytes.fromhex(properties["distributionSha256Sum"])) == 32
    assert not list(APP.rglob("*.jar"))
    assert os.access(APP / "gradlew", os.X_OK)
