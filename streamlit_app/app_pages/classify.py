"""Classify: a picture on the left, what each chosen file says about it on the right."""

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import screen
import streamlit as st

from tfcompact.data import images
from tfcompact.errors import UnreadableImage, UserError
from tfcompact.records.formats import ORIGINAL
from tfcompact.report import plot_style
from tfcompact.report.nothing_yet import FIRST
from tfcompact.runs import exports
from tfcompact.runs.exports import Export
from tfcompact.tflite.classifier import Prediction

MAX_MB = 10
SUFFIXES = ["jpg", "jpeg", "png", "webp", "bmp", "gif"]
PREVIEW_PX = 1200  # the longer side of the picture as it is shown
RUNS = 5  # of which the median is shown; one more goes before them, to warm up
Picture = npt.NDArray[np.uint8]  # upright RGB pixels `[h, w, 3]`


def picture(samples: tuple[Path, ...]) -> Picture | None:
    """The chosen picture, or None; a file that is no picture gets a message instead."""
    sources = {"Upload": ":material/upload:", "Camera": ":material/photo_camera:"}
    if samples:
        sources = {"Samples": ":material/grid_view:"} | sources
    source = st.segmented_control(
        "Picture",
        list(sources),
        default=next(iter(sources)),
        required=True,
        format_func=lambda name: f"{sources[name]} {name}",
        key="source",
    )
    if source == "Samples":
        return sample(samples)
    if source == "Camera":
        taken = st.camera_input("Take a photograph", label_visibility="collapsed", key="camera")
    else:
        taken = st.file_uploader("Choose a picture", SUFFIXES, label_visibility="collapsed", key="upload")
    if taken is None:
        return None
    if taken.size > MAX_MB * 1_000_000:
        refuse(f"{taken.name} has {taken.size / 1e6:.1f} MB; at most {MAX_MB} MB are taken, choose a smaller one")
        return None
    return decoded(taken.getvalue(), taken.name)


def sample(files: tuple[Path, ...]) -> Picture | None:
    """The picture chosen by a click in the gallery, at first the first one; None where no file can be read."""
    read = {file: decoded(file.read_bytes(), file.name) for file in files}
    pictures = {file.name: pixels for file, pixels in read.items() if pixels is not None}
    if not pictures:
        return None
    if st.session_state.get("sample") not in pictures:
        st.session_state.sample = next(iter(pictures))

    def choose(name: str) -> None:
        st.session_state.sample = name

    gallery = st.container(key="gallery", gap="xsmall")
    places = [column for _ in range(0, len(pictures), 4) for column in gallery.columns(4, gap="xsmall")]
    for i, (place, (name, pixels)) in enumerate(zip(places, pictures.items(), strict=False)):
        state = "on" if name == st.session_state.sample else "off"
        with place.container(key=f"sample_{state}_{i}"):
            label = screen.plain(name.removesuffix(".png").rpartition("-")[0] or name)
            st.image(pixels, caption=label, width="stretch")
            st.button(label, key=f"pick_{i}", on_click=choose, args=(name,))
    return pictures[st.session_state.sample]


def decoded(content: bytes, name: str) -> Picture | None:
    """The picture in a file of this content, or None after a message."""
    try:
        return images.decode(content, name=name)
    except UnreadableImage as error:
        refuse(f"{error}; choose another picture")
        return None


def refuse(line: str) -> None:
    """Shows a message about the picture; the page lives on."""
    st.error(screen.plain(line), icon=":material/broken_image:")


def choose(offered: tuple[Export, ...]) -> list[Export]:
    """The files to ask; at first those of the newest model, float beside quantized: the first and last of them."""
    named = {export.name: export for export in offered}
    newest = max(offered, key=lambda export: export.finished).model
    first = [export.name for export in offered if export.model == newest]
    names = st.multiselect(
        "Models",
        list(named),
        default=list(dict.fromkeys([first[0], first[-1]])),
        format_func=lambda name: name.replace(" ", " · "),
        placeholder="Choose one or several exported files",
        key="models",
    )
    return [named[name] for name in names]


def ask(export: Export, image: Picture) -> Prediction:
    """The file's prediction, with the median latency of a few runs. Raises `UserError` where the file is damaged."""
    return screen.classifiers().classify(export.file, export.sha256, image, runs=RUNS)


def answers(chosen: list[Export], image: Picture, colours: dict[str, str]) -> None:
    """Shows a card for each chosen file, and under them what the numbers are."""
    given: dict[Export, Prediction] = {}
    across = 2 if len(chosen) in (1, 2, 4) else 3
    for start in range(0, len(chosen), across):
        for column, export in zip(st.columns(across, gap="small"), chosen[start : start + across], strict=False):
            with column:
                try:
                    given[export] = ask(export, image)
                    screen.answer(export, given[export], colours[export.model])
                except UserError as error:
                    screen.failure(export, str(error))
    for line in beside(given):
        st.markdown(screen.plain(line))
    st.caption(
        f"Latency: median of {RUNS} runs on this computer with one thread, the network alone. It is not a phone's. "
        "Labels and normalization are read from each file's own metadata."
    )


def beside(given: dict[Export, Prediction]) -> list[str]:
    """What each file gained over the float file that it was made from, and whether its answer is the same."""
    lines = []
    for original, other in itertools.permutations(given, 2):
        if original.model == other.model and original.format == ORIGINAL:
            same = given[original].labels[0] == given[other].labels[0]
            smaller = f"{exports.times_smaller(original, other):.1f} times smaller than {ORIGINAL}"
            label = f"its first label is {'the same' if same else 'another'}"
            lines.append(f"{original.model}: {other.format} is {smaller}; {label}.")
    return lines


screen.heading(
    "Classify", "Answers of the exported files themselves: the bytes, labels and preprocessing an Android app loads."
)
root = screen.root()
found = exports.exports(root)
screen.damaged(found.damaged)
if not found.rows:
    screen.empty("No exported models yet", f"There are none under {root}. This makes one:", FIRST)
    st.stop()

left, right = st.columns([4, 8], gap="large")
with right:
    chosen = choose(found.rows)
with left:
    image = picture(exports.samples(root, chosen or found.rows))
    if image is not None:
        with st.container(key="preview"):
            st.image(images.shrunk(image, PREVIEW_PX), width="stretch")
        height, width = image.shape[:2]
        st.caption(f"{width} × {height} pixels. A model sees the middle square, resized to its own input.")
with right:
    if not chosen:
        screen.empty("No model chosen", "Choose one or several above; float beside int8 is a good start.")
    elif image is None:
        screen.empty("No picture yet", "Choose one on the left, and the answers appear here.")
    else:
        answers(chosen, image, plot_style.colours(export.model for export in found.rows))
