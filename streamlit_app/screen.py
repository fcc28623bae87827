"""What the pages share: where the runs are, loaded models, and the pieces of the screen.

Text that comes from a file or a name is escaped before it becomes HTML (`html.escape`) or Markdown (`plain`).
"""

from __future__ import annotations

import argparse
import html
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from tfcompact.runs.exports import Export
from tfcompact.tflite.classifier import Prediction
from tfcompact.tflite.classifier_process import ClassifierProcess

STYLE = Path(__file__).with_name("style.css")


def root() -> Path:
    """The runs directory: what follows `--runs` on the command line, else `TFCOMPACT_RUNS`, else `runs`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("TFCOMPACT_RUNS", "runs")))
    found: Path = parser.parse_known_args(sys.argv[1:])[0].runs
    return found


def style() -> None:
    """Adds the pages' own style sheet."""
    st.html(f"<style>{STYLE.read_text(encoding='utf-8')}</style>")


def heading(title: str, line: str) -> None:
    """Shows a page's title and the one line that says what it is for."""
    st.html(f'<header class="tc-heading"><h1>{html.escape(title)}</h1><p>{html.escape(line)}</p></header>')


def title(text: str, line: str) -> None:
    """Shows a panel's title and the line under it."""
    st.html(f'<div class="tc-title"><b>{html.escape(text)}</b><span>{html.escape(line)}</span></div>')


def legend(colours: dict[str, str], glyphs: dict[str, str]) -> None:
    """Shows what the colours and the shapes of the plots stand for, once for all of them."""
    chips = [f'<i style="color:{html.escape(colour)}">●</i>{html.escape(name)}' for name, colour in colours.items()]
    chips += [f"<i>{html.escape(glyph)}</i>{html.escape(name)}" for name, glyph in glyphs.items()]
    st.html(f'<div class="tc-legend">{"".join(f"<span>{chip}</span>" for chip in chips)}</div>')


def empty(title: str, line: str, command: str | None = None) -> None:
    """Fills the place where there is nothing yet, with the command that changes it."""
    code = f"<code>{html.escape(command)}</code>" if command else ""
    st.html(f'<div class="tc-empty"><h3>{html.escape(title)}</h3><p>{html.escape(line)}</p>{code}</div>')


def damaged(lines: Sequence[str]) -> None:
    """Names the files that could not be read; the rest of the page goes on."""
    for line in lines:
        st.warning(plain(line), icon=":material/folder_off:")


def plain(text: str) -> str:
    """The text as Markdown that shows it and nothing else."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|$:~])", r"\\\1", " ".join(text.split()))


@st.cache_resource(show_spinner=False)
def classifiers() -> ClassifierProcess:
    """The process in which all files are run, for everybody: a file may end it, and the app lives on."""
    return ClassifierProcess()


def answer(export: Export, prediction: Prediction, colour: str) -> None:
    """Shows one model's card: its first label in large, the bars of the first five, and what the answer cost."""
    first, share = prediction.labels[0], prediction.probabilities[0]
    bars = "".join(
        f'<li><span class="tc-label" title="{html.escape(label)}">{html.escape(label)}</span>'
        f'<span class="tc-share">{_percent(probability)}</span>'
        f'<span class="tc-track"><i style="width:{100 * min(max(probability, 0.0), 1.0):.1f}%"></i></span></li>'
        for label, probability in zip(prediction.labels, prediction.probabilities, strict=True)
    )
    st.html(
        f'<article class="tc-card" style="--tc-colour:{html.escape(colour)}">'
        f'<div class="tc-name"><b>{html.escape(export.model)}</b><span>{html.escape(export.format)}</span></div>'
        f'<div class="tc-first"><strong>{html.escape(first)}</strong><em>{_percent(share)}</em></div>'
        f'<ol class="tc-bars">{bars}</ol>'
        f'<dl class="tc-facts"><div><dt>latency</dt><dd>{prediction.latency_ms:.2f} ms</dd></div>'
        f"<div><dt>file</dt><dd>{export.size_mb:.2f} MB</dd></div>"
        f"<div><dt>input</dt><dd>{export.image_px} px</dd></div></dl></article>"
    )


def failure(export: Export, reason: str) -> None:
    """Shows a card in the place of an answer, which says why there is none."""
    st.html(
        f'<article class="tc-card tc-failed"><div class="tc-name"><b>{html.escape(export.model)}</b>'
        f"<span>{html.escape(export.format)}</span></div><p>{html.escape(reason)}</p></article>"
    )


def _percent(share: float) -> str:
    """`98.3 %`; what would round to nothing is `< 0.1 %`."""
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"
