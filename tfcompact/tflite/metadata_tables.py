"""The tables of TensorFlow Lite Support's schema that say what a classifier's file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.records.artifact import Normalization
from tfcompact.tflite.metadata_schema import (
    Byte,
    Content,
    File,
    Image,
    Model,
    Options,
    ProcessUnit,
    Stats,
    Subgraph,
    Tensor,
    write,
)

if TYPE_CHECKING:
    from tfcompact.tflite.metadata import Metadata

IDENTIFIER = b"M001"
LABELS, OWN = "labels.txt", "tfcompact.json"
PARSER_VERSION = "1.0.0"  # every field written here is of the schema's first version


def model_metadata(metadata: Metadata, input_type: int) -> bytes:
    """The flatbuffer `ModelMetadata`, as a tree of tables by slot."""
    normalization = metadata.normalization
    mean, std = broadcast(normalization, np.float64)
    match input_type:
        case schema.TensorType.UINT8:
            pixel, score = (0.0, 255.0), (0.0, 255.0)
        case schema.TensorType.INT8:
            pixel, score = (-128.0, 127.0), (-128.0, 127.0)
        case _:
            pixel, score = (((0 - mean) / std).tolist(), ((255 - mean) / std).tolist()), (0.0, 1.0)
    color = Image.RGB if normalization.channel_order == "rgb" else Image.UNKNOWN
    image = {
        Tensor.NAME: "image",
        Tensor.DESCRIPTION: "The photograph, short side resized and centre cropped to the input's size.",
        Tensor.CONTENT: {Content.TYPE: Byte(Content.IMAGE), Content.VALUE: {Image.COLOR_SPACE: Byte(color)}},
        Tensor.PROCESS_UNITS: [
            {
                ProcessUnit.TYPE: Byte(ProcessUnit.NORMALIZATION),
                ProcessUnit.OPTIONS: {Options.MEAN: mean.tolist(), Options.STD: std.tolist()},
            }
        ],
        Tensor.STATS: _stats(*pixel),
    }
    labels = {
        File.NAME: LABELS,
        File.DESCRIPTION: "One label a line, in the order of the outputs.",
        File.TYPE: Byte(File.AXIS_LABELS),
    }
    probability = {
        Tensor.NAME: "probability",
        Tensor.DESCRIPTION: "The probability of each label.",
        Tensor.CONTENT: {Content.TYPE: Byte(Content.FEATURE), Content.VALUE: {}},
        Tensor.STATS: _stats(*score),
        Tensor.FILES: [labels],
    }
    own = {File.NAME: OWN, File.DESCRIPTION: "All of this, exactly.", File.TYPE: Byte(File.OTHER)}
    model = {
        Model.NAME: metadata.name,
        Model.DESCRIPTION: metadata.description,
        Model.VERSION: metadata.version,
        Model.SUBGRAPHS: [{Subgraph.INPUTS: [image], Subgraph.OUTPUTS: [probability]}],
        Model.AUTHOR: metadata.author,
        Model.LICENSE: metadata.license,
        Model.FILES: [own],
        Model.PARSER_VERSION: PARSER_VERSION,
    }
    builder = flatbuffers.Builder(1024)
    builder.Finish(write(builder, model), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _stats(low: float | list[float], high: float | list[float]) -> dict[int, list[float]]:
    """The table of the least and the largest value, of each channel or of all."""
    return {Stats.MAX: np.atleast_1d(high).tolist(), Stats.MIN: np.atleast_1d(low).tolist()}


def broadcast(normalization: Normalization, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std with one length, as readers of the official schema want them."""
    width = max(len(normalization.mean), len(normalization.std))
    return (
        np.resize(np.asarray(normalization.mean, dtype), width),
        np.resize(np.asarray(normalization.std, dtype), width),
    )
