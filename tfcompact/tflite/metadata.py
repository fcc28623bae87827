"""Labels and normalization inside the `.tflite` file, where Android's readers look for them.

The format is that of TensorFlow Lite Support 0.4.4. A flatbuffer `ModelMetadata` (identifier `M001`) lies in a buffer
of the model that the model's metadata entry `TFLITE_METADATA` points to, and the label file follows the model as an
uncompressed zip, which readers of either format skip.

That schema cannot say BGR, keeps means as float32 and knows nothing of runs, so a second file in the zip,
`tfcompact.json`, repeats everything exactly. `read` takes files with and without it, and refuses one where the two
disagree.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfcompact.errors import UserError
from tfcompact.records.artifact import Normalization
from tfcompact.records.record import Record
from tfcompact.tflite.flatbuffer import DAMAGE, MODEL_IDENTIFIER, Source, StoredModel, content_of, described, shape_of
from tfcompact.tflite.metadata_schema import (
    AlignedBuilder,
    File,
    Model,
    Options,
    ProcessUnit,
    Subgraph,
    Table,
    Tensor,
)
from tfcompact.tflite.metadata_tables import IDENTIFIER, LABELS, OWN, broadcast, model_metadata

ENTRY = b"TFLITE_METADATA"
SCHEMA = 1
_LARGEST_FILE = 1 << 22  # bytes; a zip entry that claims more is not a label file


@dataclass(frozen=True)
class Metadata(Record):
    """What a file says of itself. `labels` are in the order of the outputs.

    `model` and `run` name what the file was made from; they are empty in one that tfcompact did not write.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    normalization: Normalization
    version: str = "1"
    author: str = ""
    license: str = ""
    model: str = ""
    run: str = ""

    def __post_init__(self) -> None:
        for label in self.labels:
            if label.splitlines() != [label] or not label.strip():
                raise UserError(
                    f"class name {label!r} cannot be a line of a label file; rename the class so that it is one line"
                )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for text in (value,) if isinstance(value, str) else value if field.name == "labels" else ():
                if "\0" in text or not _encodable(text):
                    raise UserError(f"{field.name} {text!r} holds characters that UTF-8 text cannot; rename it")

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return Normalization.from_json(value) if name == "normalization" else super()._decode(name, value)


def attach(
    tflite: bytes,
    *,
    name: str,
    description: str,
    labels: Sequence[str],
    normalization: Normalization,
    version: str = "1",
    author: str = "",
    license: str = "",
    model: str = "",
    run: str = "",
) -> bytes:
    """The model with its metadata: same weights, same outputs, and the same bytes for the same arguments.

    Weights come to lie at multiples of 16 bytes, as the model's schema asks and the converter's own Python passes
    do not keep. A file whose channel order is BGR gets the color space "unknown", so that readers which know only RGB
    refuse it instead of swapping its colors. Raises `UserError` where `tflite` is not a model with one input and one
    output of `len(labels)` classes, where it already has metadata, or where a label is not one line of text.
    """
    metadata = Metadata(
        name, description, tuple(labels), normalization, version, author, license, model=model, run=run
    )
    if _entry(content_of(tflite)) is not None:
        raise UserError("the model already has metadata; attach it to the converter's output instead")
    try:
        unpacked: StoredModel = schema.ModelT.InitFromPackedBuf(tflite, 0)
    except DAMAGE:
        raise UserError("the model is damaged; convert it again") from None
    input_type = _check_graph(unpacked, len(metadata.labels))
    unpacked.metadata = unpacked.metadata or []
    unpacked.metadata.append(schema.MetadataT(name=ENTRY, buffer=len(unpacked.buffers)))
    content = np.frombuffer(model_metadata(metadata, input_type), np.uint8)
    unpacked.buffers.append(schema.BufferT(data=content))
    builder = AlignedBuilder(len(tflite) + len(content) + 4096)
    builder.Finish(unpacked.Pack(builder), file_identifier=MODEL_IDENTIFIER)
    own = {"schema": SCHEMA, **metadata.to_json()}
    return _append_files(
        bytes(builder.Output()),
        {
            LABELS: "".join(f"{label}\n" for label in metadata.labels),
            OWN: json.dumps(own, ensure_ascii=False, indent=1, sort_keys=True),
        },
    )


def read(source: Source) -> Metadata:
    """The metadata in a `.tflite` file, given by its path or its bytes.

    Raises `UserError` where the file cannot be read, is not a model, has no metadata, or has damaged metadata.
    """
    content, where = content_of(source), described(source)
    entry = _entry(content)
    if entry is None:
        raise UserError(f"{where} has no metadata (labels, normalization); export it again with: make export")
    try:
        return _decoded(content, entry)
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{where} has damaged metadata ({reason}); export it again with: make export") from None


def _encodable(text: str) -> bool:
    """Whether it can be written in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, from a file name that is not UTF-8
        return False
    return True


def _entry(content: bytes) -> bytes | None:
    """The bytes of the buffer that the entry `TFLITE_METADATA` points to, or None without such an entry."""
    model = schema.Model.GetRootAs(content, 0)  # its fields are read where they lie: weights stay untouched
    try:
        for i in range(model.MetadataLength()):
            entry = model.Metadata(i)
            if entry.Name() == ENTRY:
                data = model.Buffers(entry.Buffer()).DataAsNumpy()
                return bytes(data) if isinstance(data, np.ndarray) else b""
    except DAMAGE:
        raise UserError("the model is damaged; export it again with: make export") from None
    return None


def _check_graph(model: StoredModel, classes: int) -> int:
    """The type of the only input. Raises `UserError` unless the only output has `classes` values."""
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UserError(
            f"a classifier has one input and one output, not {len(graph.inputs)} and {len(graph.outputs)}; "
            "export the network without its training-time outputs"
        )
    width = shape_of(graph.tensors[graph.outputs[0]])[-1]
    if width != classes:
        raise UserError(f"the model has {width} outputs but {classes} labels were given; give one label per output")
    return int(graph.tensors[graph.inputs[0]].type)


def _append_files(model: bytes, files: Mapping[str, str]) -> bytes:
    """The model with a zip of text files behind it, which its readers skip."""
    stream = io.BytesIO(model)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            # A fixed date, or the same export would have another sha256 every two seconds.
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), text.encode())
    return stream.getvalue()


def _decoded(content: bytes, entry: bytes) -> Metadata:
    """What the metadata and the files behind the model say; the exact one where there is one."""
    if entry[4:8] != IDENTIFIER:
        raise UserError(f"identifier {entry[4:8]!r} instead of {IDENTIFIER!r}")
    root = Table.root(entry)
    (subgraph,) = root.tables(Model.SUBGRAPHS)
    (image,), (probability,) = subgraph.tables(Subgraph.INPUTS), subgraph.tables(Subgraph.OUTPUTS)
    units, files = image.tables(Tensor.PROCESS_UNITS), probability.tables(Tensor.FILES)
    (options,) = [
        u.table(ProcessUnit.OPTIONS) for u in units if u.byte(ProcessUnit.TYPE) == ProcessUnit.NORMALIZATION
    ]
    (labels,) = [file.text(File.NAME) for file in files if file.byte(File.TYPE) == File.AXIS_LABELS]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        official = Metadata(
            root.text(Model.NAME),
            root.text(Model.DESCRIPTION),
            tuple(_file(archive, labels).splitlines()),
            Normalization(options.floats(Options.MEAN), options.floats(Options.STD)),
            root.text(Model.VERSION),
            root.text(Model.AUTHOR),
            root.text(Model.LICENSE),
        )
        if OWN not in archive.namelist():
            return official
        data = json.loads(_file(archive, OWN))
    if data.pop("schema") != SCHEMA:
        raise UserError(f"{OWN} is of another schema than {SCHEMA}")
    own = Metadata.from_json(data)
    if _comparable(own) != _comparable(official):
        raise UserError(f"{OWN} and the official metadata disagree")
    return own


def _comparable(metadata: Metadata) -> tuple[object, ...]:
    """What the official schema can express, at its precision."""
    rounded = broadcast(metadata.normalization, np.float32)
    texts = (metadata.name, metadata.description, metadata.version, metadata.author, metadata.license)
    return (*texts, metadata.labels, *(tuple(values.tolist()) for values in rounded))


def _file(archive: zipfile.ZipFile, name: str) -> str:
    """The text of a file in the zip."""
    facts = archive.getinfo(name)
    if facts.file_size > _LARGEST_FILE:
        raise UserError(f"{name} claims {facts.file_size} bytes")
    if facts.compress_type != zipfile.ZIP_STORED:  # what was compressed may be of any size, whatever it claims
        raise UserError(f"{name} is compressed")
    return archive.read(name).decode()
