"""The page that lies beside exported files and says what they are."""

from __future__ import annotations

from collections.abc import Sequence

from tfcompact.export.gate import Source
from tfcompact.records.artifact import Artifact


def model_card(source: Source, artifacts: Sequence[Artifact], lines: Sequence[str]) -> str:
    """A Markdown page on what the files are, how they were made, how good they are and what they expect."""
    first = artifacts[0]
    mean, std = first.normalization.mean, first.normalization.std
    rows = [
        f"| `{a.path}` | {a.bytes / 1e6:.2f} | {a.checks['accuracy']:.1%} | {a.checks['agreement']:.1%} "
        f"| {a.checks['xnnpack_partitions']} | `{a.sha256[:12]}` |"
        for a in artifacts
    ]
    classes = ", ".join(source.classes[:20]) + (" …" if len(source.classes) > 20 else "")
    return "\n".join(
        [
            f"# {source.name}",
            "",
            f"An image classifier of {len(source.classes)} classes: {classes}.",
            "",
            "## Files",
            "",
            "| file | MB | validation accuracy | agreement with Keras | XNNPACK partitions | sha256 |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Accuracy and agreement were measured on {first.checks['images']} validation images when the files were "
            "written.",
            "",
            "## Input and output",
            "",
            f"One RGB image of {first.image_px} x {first.image_px}. The uint8 file takes pixels as they are, 0..255, "
            "the int8 file pixel - 128,",
            f"the others float32 (pixel - {mean[0]:g}) / {std[0]:g} as their metadata says. Output: one probability "
            "a class, in the order of `labels.txt`.",
            "",
            "## How it was made",
            "",
            *[f"- {line}" for line in lines],
            "",
            "## Limits",
            "",
            "It knows only the classes above and puts every image into one of them. Its accuracy holds for images "
            "like those it was trained on.",
            "",
        ]
    )
