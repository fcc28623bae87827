"""Pictures of the app's pages, light and dark: `python tests/browser/screenshot.py --runs runs --out docs/images`."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def chromium() -> str | None:
    """The path of Chromium, or None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def app(runs: Path) -> Iterator[str]:
    """The running app's address, on a free port of this machine; it is stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app/app.py"]
    command += ["--server.headless", "true", "--server.address", "127.0.0.1", "--server.port", str(port)]
    command += ["--", "--runs", str(runs.resolve())]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        for _ in range(120):
            if process.poll() is not None:
                raise RuntimeError(f"the app ended with status {process.returncode}")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                break
            time.sleep(0.25)
        else:
            raise RuntimeError("the app did not answer within 30 seconds")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def browser() -> Iterator[object]:
    """A headless Chromium driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        driven = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield driven
        finally:
            driven.close()


def main() -> None:
    """Writes classify-light.png, classify-dark.png, compare-light.png and compare-dark.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--width", type=int, default=1360)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with app(arguments.runs) as address, browser() as driven:
        for scheme in ("light", "dark"):
            page = driven.new_page(
                viewport={"width": arguments.width, "height": 900}, color_scheme=scheme, device_scale_factor=1.5
            )
            for name, ready in (("classify", ".tc-card, .tc-empty"), ("compare", "canvas, .tc-empty")):
                page.goto(f"{address}/{'' if name == 'classify' else name}")
                page.locator(ready).first.wait_for(timeout=60_000)
                page.wait_for_timeout(1500)  # fonts and the plot's first frame
                size = page.evaluate("document.querySelector('.stMainBlockContainer').scrollHeight")
                page.set_viewport_size({"width": arguments.width, "height": max(700, int(size))})
                page.wait_for_timeout(500)
                path = arguments.out / f"{name}-{scheme}.png"
                page.screenshot(path=path)
                page.set_viewport_size({"width": arguments.width, "height": 900})
                print(path)
            page.close()


if __name__ == "__main__":
    main()
