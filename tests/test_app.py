"""The app, run by Streamlit's own test driver on an invented runs directory whose files name a picture's colour."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fake_runs
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

APP = Path(__file__).parents[1] / "streamlit_app" / "app.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A runs directory that no test writes into."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    fake_runs.build(root)
    return root


@pytest.fixture
def start(monkeypatch):
    """Starts the app on a runs directory."""

    def started(root: Path) -> AppTest:
        monkeypatch.setenv("TFCOMPACT_RUNS", str(root))
        return AppTest.from_file(str(APP), default_timeout=30).run()

    return started


def picture(colour, format: str = "PNG", size: tuple[int, int] = (90, 60)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, format)
    return stream.getvalue()


def html(at: AppTest) -> str:
    assert not at.exception
    return "\n".join(element.proto.body for element in at.get("html"))


def first_labels(at: AppTest) -> list[str]:
    return re.findall(r"<strong>(.*?)</strong>", html(at))


def upload(at: AppTest, name: str, content: bytes, kind: str = "image/png") -> AppTest:
    at.segmented_control(key="source").set_value("Upload").run()
    at.file_uploader(key="upload").set_value((name, content, kind))
    return at.run()


def test_a_sample_is_answered_at_once_float_beside_quantized(whole, start):
    at = start(whole)
    assert first_labels(at) == ["black", "black"]
    assert [html(at).count(f"<span>{format}</span>") for format in ("float32", "uint8")] == [1, 1]
    assert any("times smaller than float32; its first label is the same" in plain(m.value) for m in at.markdown)
    assert re.search(r"\d+\.\d\d ms", html(at))
    assert "not a phone's" in at.caption[-1].value


def plain(text: str) -> str:
    return text.replace("\\", "")


def test_a_click_on_a_sample_chooses_it(whole, start):
    at = start(whole)
    at.button(key="pick_3").click().run()
    assert first_labels(at) == ["red", "red"]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_upload_is_classified(whole, start, format):
    at = upload(start(whole), f"p.{format.lower()}", picture("yellow", format), f"image/{format.lower()}")
    assert first_labels(at) == ["yellow", "yellow"]
    assert not at.error


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000)])
def test_a_picture_of_one_row_is_classified(whole, start, size):
    stream = io.BytesIO()
    Image.new("RGB", size, "white").save(stream, "PNG")
    at = upload(start(whole), "thin.png", stream.getvalue())
    assert first_labels(at) == ["white", "white"]
    assert not at.exception


def test_camera_is_classified(whole, start):
    at = start(whole)
    at.segmented_control(key="source").set_value("Camera").run()
    at.camera_input(key="camera").set_value(("shot.jpg", picture((200, 30, 30), "JPEG"), "image/jpeg"))
    assert first_labels(at.run()) == ["red", "red"]


def test_every_chosen_file_answers(whole, start):
    at = start(whole)
    chosen = [name.replace(" · ", " ") for name in at.multiselect(key="models").options]
    at.multiselect(key="models").set_value(chosen).run()
    assert len(chosen) == 9
    assert first_labels(at) == ["black"] * 9
    at.multiselect(key="models").set_value([]).run()
    assert "No model chosen" in html(at)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.jpg", b"this is not a picture", "text.jpg is not a readable image"),
        ("cut.png", picture("red")[:60], "cut.png is not a readable image"),
        ("empty.png", b"", "empty.png is not a readable image"),
        ("big.png", b"\x89PNG" + bytes(10_000_001), "big.png has 10.0 MB; at most 10 MB are taken"),
    ],
)
def test_broken_upload_gets_a_message_and_the_app_lives_on(whole, start, name, content, words):
    at = upload(start(whole), name, content)
    assert words in plain(at.error[0].value)
    assert "No picture yet" in html(at)
    at.file_uploader(key="upload").set_value(("good.png", picture("white"), "image/png"))
    assert first_labels(at.run()) == ["white", "white"]
    assert not at.error


def test_decompression_bomb_is_refused(whole, start):
    at = upload(start(whole), "bomb.png", picture(0, size=(8_000, 6_500)))
    assert "bomb.png is not a readable image" in plain(at.error[0].value)
    assert "50 million pixels" in plain(at.error[0].value)


def test_names_cannot_become_markup(whole, start, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    root = Path(shutil.copytree(whole, tmp_path / "runs"))
    (root / "mobilenet_v2").rename(root / evil)
    for other in root.iterdir():
        if other.name != evil:
            shutil.rmtree(other)
    at = start(root)
    assert "<img" not in html(at)
    assert "&lt;img src=x onerror=alert(1)&gt;" in html(at)
    at = upload(at, "*a*[b](c)<i>.png", b"broken")
    assert "<i>" not in at.error[0].value
    assert r"\*a\*\[b\]\(c\)\<i\>" in at.error[0].value


def test_changed_file_gets_a_card_and_the_others_answer(whole, start, tmp_path):
    root = Path(shutil.copytree(whole, tmp_path / "runs"))
    for file in root.glob("*/export-*/model.uint8.tflite"):
        file.write_bytes(b"other")
    at = start(root)
    assert first_labels(at) == ["black"]
    assert "is not what was exported" in html(at)


def test_damaged_sample_is_named_and_left_out(whole, start, tmp_path):
    root = Path(shutil.copytree(whole, tmp_path / "runs"))
    for file in root.glob("*/export-*/samples/black-1.png"):
        file.write_bytes(b"broken")
    at = start(root)
    assert "black-1.png is not a readable image" in plain(at.error[0].value)
    assert first_labels(at) == ["blue", "blue"]


def test_nothing_there_names_the_command(tmp_path, start):
    at = start(tmp_path)
    assert "No exported models yet" in html(at)
    assert "make train MODEL=mobilenet_v2" in html(at)
    at.switch_page("app_pages/compare.py").run()
    assert "No measurements yet" in html(at)


def test_damaged_run_is_named_and_the_pages_live_on(whole, start, tmp_path):
    root = Path(shutil.copytree(whole, tmp_path / "runs"))
    damaged = next(root.glob("mobilenet_v2/export-*")) / "artifacts.json"
    damaged.write_text("{")
    measurement = next(root.glob("inception_v3/measurements/*.json"))
    measurement.write_text("[]")
    at = start(root)
    assert len(first_labels(at)) == 2
    assert str(damaged) in plain(at.warning[0].value)
    at.switch_page("app_pages/compare.py").run()
    assert not at.exception
    words = plain(" ".join(w.value for w in at.warning))
    assert str(damaged) in words
    assert str(measurement) in words
    assert len(at.dataframe) == 1


def test_compare_shows_every_row_and_filters(whole, start):
    at = start(whole)
    at.switch_page("app_pages/compare.py").run()
    assert not at.exception
    assert len(at.dataframe[0].value) == 9  # one thread, at first
    assert at.dataframe[0].value["Top-1, %"].max() == pytest.approx(80.1)
    at.pills(key="threads_shown").set_value([]).run()
    assert len(at.dataframe[0].value) == 18
    assert len(at.get("vega_lite_chart")) == 2  # one for each number of threads
    at.multiselect(key="models_shown").set_value(["mobilenet_v2"]).run()
    at.pills(key="formats_shown").set_value(["uint8"]).run()
    assert set(at.dataframe[0].value["Format"]) == {"uint8"}
    assert len(at.dataframe[0].value) == 2
    at.pills(key="formats_shown").set_value(["int8"]).run()
    assert "No rows left" in html(at)


def test_app_needs_no_tensorflow(whole):
    code = f"""
import os, sys
os.environ["TFCOMPACT_RUNS"] = {str(whole)!r}
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({str(APP)!r}, default_timeout=30).run()
at.switch_page("app_pages/compare.py").run()
assert not at.exception
found = {{"tensorflow", "tf_keras", "keras"}} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)
