"""Classify: a picture on the left, what each chosen file says about it on the right."""

import itertools
import statistics
from pathlib import Path

import numpy as np
import parts
import streamlit as st

from tfcompact.data import images
from tfcompact.errors import UnreadableImage, UserError
from tfcompact.report import plot_style
from tfcompact.runs import exports as exports_module
from tfcompact.runs.exports import Export
from tfcompact.tflite.classifier import Prediction

MAX_MB = 10
SUFFIXES = ["jpg", "jpeg", "png", "webp", "bmp", "gif"]
RUNS = 5  # of which the median is shown; one more goes before them, to warm up


def picture(samples: tuple[Path, ...]) -> np.ndarray | None:
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


def sample(files: tuple[Path, ...]) -> np.ndarray | None:
    """The gallery; a click on a picture chooses it, and the first one is chosen already."""
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
            label = parts.plain(name.removesuffix(".png").rpartition("-")[0] or name)
            st.image(pixels, caption=label, width="stretch")
            st.button(label, key=f"pick_{i}", on_click=choose, args=(name,))
    return pictures[st.session_state.sample]


def decoded(content: bytes, name: str) -> np.ndarray | None:
    """Upright RGB pixels, uint8 `[h, w, 3]`, or None after a message."""
    try:
        return images.decode(content, name=name)
    except UnreadableImage as error:
        refuse(f"{error}; choose another picture")
        return None


def refuse(line: str) -> None:
    """A message about the picture; the page lives on."""
    st.error(parts.plain(line), icon=":material/broken_image:")


def choose(exports: tuple[Export, ...]) -> list[Export]:
    """The models to ask; at first the newest one, float beside quantized: the first and last of its files."""
    named = {export.name: export for export in exports}
    newest = max(exports, key=lambda export: export.finished).model
    first = [export.name for export in exports if export.model == newest]
    names = st.multiselect(
        "Models",
        list(named),
        default=list(dict.fromkeys([first[0], first[-1]])),
        format_func=lambda name: name.replace(" ", " · "),
        placeholder="Choose one or several exported files",
        key="models",
    )
    return [named[name] for name in names]


def ask(export: Export, image: np.ndarray) -> Prediction:
    """The file's prediction, with the median latency of a few runs. Raises `UserError` where the file is damaged."""
    model = parts.classifier(str(export.file), export.sha256)
    model.classify(image)
    predictions = [model.classify(image) for _ in range(RUNS)]
    latency = statistics.median(prediction.latency_ms for prediction in predictions)
    return Prediction(predictions[0].labels, predictions[0].probabilities, latency)


def answers(chosen: list[Export], image: np.ndarray, colours: dict[str, str]) -> None:
    """A card for each chosen file, and under them what the numbers are."""
    given: dict[Export, Prediction] = {}
    across = 2 if len(chosen) in (1, 2, 4) else 3
    for start in range(0, len(chosen), across):
        for column, export in zip(st.columns(across, gap="small"), chosen[start : start + across], strict=False):
            with column:
                try:
                    given[export] = ask(export, image)
                    parts.answer(export, given[export], colours[export.model])
                except UserError as error:
                    parts.failure(export, str(error))
    for line in beside(given):
        st.markdown(parts.plain(line))
    st.caption(
        f"Latency: median of {RUNS} runs on this computer with one thread, the network alone. It is not a phone's. "
        "Labels and normalization are read from each file's own metadata."
    )


def beside(given: dict[Export, Prediction]) -> list[str]:
    """What each quantized file gained over the float file of its model, and whether its answer is the same."""
    lines = []
    for original, other in itertools.permutations(given, 2):
        if original.model == other.model and original.format == "float32":
            same = given[original].labels[0] == given[other].labels[0]
            smaller = (
                f"{other.format} is {exports_module.times_smaller(original, other):.1f} times smaller than float32"
            )
            lines.append(f"{original.model}: {smaller}; its first label is {'the same' if same else 'another'}.")
    return lines


parts.heading(
    "Classify", "Answers of the exported files themselves: the bytes, labels and preprocessing an Android app loads."
)
root = parts.root()
found = exports_module.exports(root)
parts.damaged(found.damaged)
if not found.rows:
    parts.empty("No exported models yet", f"There are none under {root}. This makes one:", parts.FIRST)
    st.stop()

left, right = st.columns([4, 8], gap="large")
with right:
    chosen = choose(found.rows)
with left:
    image = picture(exports_module.samples(root, chosen or found.rows))
    if image is not None:
        with st.container(key="preview"):
            st.image(image, width="stretch")
        height, width = image.shape[:2]
        st.caption(f"{width} × {height} pixels. A model sees the middle square, resized to its own input.")
with right:
    if not chosen:
        parts.empty("No model chosen", "Choose one or several above; float beside int8 is a good start.")
    elif image is None:
        parts.empty("No picture yet", "Choose one on the left, and the answers appear here.")
    else:
        answers(chosen, image, plot_style.colours(export.model for export in found.rows))
