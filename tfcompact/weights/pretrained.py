"""Where a training starts from when it does not start from nothing: `--weights imagenet`, a file, or a run.

| `--weights` | what is read |
|---|---|
| `imagenet` | the file of a Python package (extra `tfcompact[weights]`), else what tf_keras.applications publishes |
| a run's directory, or its `model.h5` | a network of ours |
| HDF5 | a weights file of tf_keras.applications, with its head, without, or with another |
| safetensors, or what torch.save writes | a state dict of torchvision or timm, with a head or without |

A file's bytes decide what it is, whatever it is called.
Every source brings the normalization that its network was trained with. There is no way from here to random weights:
what cannot be had, or does not fit, is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfcompact.data import imagenet
from tfcompact.errors import UserError
from tfcompact.frameworks import Inputs, Layer, Model, Tensor
from tfcompact.models import Spec, built
from tfcompact.models.spec import TorchWeights
from tfcompact.networks import rewrite
from tfcompact.records.artifact import Normalization
from tfcompact.runs import lineage, store
from tfcompact.weights import keras_file, saved, state_dict, transfer
from tfcompact.weights.downloads import IMAGENET, downloaded

SHOWN_KEYS = 6  # of a state dict that does not fit


@dataclass(frozen=True)
class Pretrained:
    """A trained network, by what it is called, and the sha256 of the file it was read from.

    `normalization` is what it expects of a pixel, `classes` are named where they are known. `fill(model, keep_head)`
    gives a copy of a fresh model with its weights; the head keeps its random ones unless `keep_head`.
    """

    label: str
    sha256: str
    normalization: Normalization
    classes: tuple[str, ...] | None
    fill: Callable[[Model, bool], Model]

    def start(self, model: Model, classes: tuple[str, ...]) -> Model:
        """A copy of `model`, fresh, for `classes`, with these weights.

        Raises `UserError` where they do not fit, and where some are no finite numbers.
        """
        try:
            network = self.fill(model, self.keeps_head(classes))
        except UserError as error:
            raise UserError(f"{self.label}: {error}") from None
        for layer in network.layers:
            if not all(np.isfinite(array).all() for array in layer.get_weights()):
                raise UserError(
                    f"{self.label}: layer {layer.name} holds infinite weights, or some that are no numbers; its "
                    "training diverged: take a checkpoint from before"
                )
        return network

    def keeps_head(self, classes: tuple[str, ...]) -> bool:
        """Whether the classifier itself is taken over: where the classes are known to be the same."""
        return self.classes == classes


def find(spec: Spec, name: str) -> Pretrained:
    """The weights that `name` stands for, for the architecture `spec`.

    Raises `UserError` where there are none, where a file is not what it should be, and where a download fails.
    """
    if name == IMAGENET:
        return _imagenet(spec)
    path = Path(name).expanduser()
    if not path.exists():
        raise UserError(f"no weights at {path}; --weights takes {IMAGENET}, a run's directory, or a file")
    if path.is_dir() or (path.name == "model.h5" and (path.parent / "provenance.json").is_file()):
        return _run(spec, path if path.is_dir() else path.parent)
    if not path.is_file():
        raise UserError(f"{path} is not a file of weights; --weights takes {IMAGENET}, a run's directory, or a file")
    if state_dict.is_hdf5(path):
        if not spec.keras:
            raise UserError(f"tf_keras.applications has no {spec.name}, so no .h5 weights for it; {_files(spec)}")
        return _keras(spec, path)
    return _state(spec, path)


def _imagenet(spec: Spec) -> Pretrained:
    """The published ImageNet weights: of a package that is installed, else as Keras downloads them."""
    if spec.packaged:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return _package(spec)
    if spec.keras and spec.classes == 1000:
        return _keras(spec, downloaded(spec, _files(spec)))
    if spec.packaged:
        raise UserError(
            f"the ImageNet weights of {spec.name} come with the Python package {spec.packaged.package}, which is not "
            "installed; try: make weights"
        )
    raise UserError(f"nobody publishes ImageNet weights of {spec.name} that can be fetched; {_files(spec)}")


def _files(spec: Spec) -> str:
    """What an error advises: the files that would do."""
    if not spec.torch:
        return "train it from scratch, or give --weights a run of your own"
    names = " or ".join(f"{source.library}'s {source.model}" for source in spec.torch)
    return f"give --weights a state dict of {names}, saved as .safetensors or .pth"


def _package(spec: Spec) -> Pretrained:
    """The weights that a Python package holds."""
    source = spec.packaged
    assert source is not None
    path = Path(str(importlib.metadata.distribution(source.package).locate_file(source.path)))
    if not path.is_file():
        raise UserError(f"{source.package} is installed without {source.path}; try: make weights")
    if (digest := _sha256(path)) != source.sha256:
        raise UserError(
            f"{path} has sha256 {digest[:16]}…, not {source.sha256[:16]}… as {source.package} {source.version} has; "
            "remove the package, then: make weights"
        )
    arrays = state_dict.read(path)
    return Pretrained(
        label=f"{source.package} {source.version}",
        sha256=digest,
        normalization=source.state.normalization,
        classes=imagenet.classes(),
        fill=lambda model, keep: transfer.from_torch(model, arrays, source.state, keep_head=keep),
    )


def _state(spec: Spec, path: Path) -> Pretrained:
    """The weights in a state dict, which says by its keys, or by its name, whose it is."""
    arrays = state_dict.read(path)
    sources = [*spec.torch, *([spec.packaged.state] if spec.packaged else [])]
    if not sources:
        raise UserError(f"no library that tfcompact reads has a {spec.name}; {_files(spec)}")
    probe = built(spec, px=spec.min_px, classes=2)
    missing = {id(s): transfer.missing_key(probe, arrays, s) for s in sources}
    fitting = [s for s in sources if missing[id(s)] is None]
    if not fitting:
        wanted = " or ".join(f"{s.library}'s {s.model} (no {missing[id(s)]})" for s in sources)
        keys = ", ".join(list(arrays)[:SHOWN_KEYS]) + (", …" if len(arrays) > SHOWN_KEYS else "")
        raise UserError(f"{path} is not a state dict of {wanted}; it has {len(arrays)} arrays: {keys}")
    source = _named(path, fitting)
    return Pretrained(
        label=f"{path.name} ({source.library} {source.model})",
        sha256=_sha256(path),
        normalization=source.normalization,
        classes=imagenet.classes() if transfer.classes(arrays, source) == 1000 else None,
        fill=lambda model, keep: transfer.from_torch(model, arrays, source, keep_head=keep),
    )


def _named(path: Path, fitting: list[TorchWeights]) -> TorchWeights:
    """The source that `path` names, of several with the same arrays: timm's `tf_x` pads otherwise than its `x`."""
    if len({replace(s, library="", model="") for s in fitting}) == 1:  # one, or several that compute alike
        return fitting[0]
    named = [s for s in fitting if s.model in path.stem]
    longest = max((len(s.model) for s in named), default=0)
    chosen = [s for s in named if len(s.model) == longest]
    if len(chosen) == 1:
        return chosen[0]
    names = " or ".join(f"{s.library}'s {s.model}" for s in fitting)
    raise UserError(f"{path} fits {names}, which compute differently; name the file after the one it is of")


def _keras(spec: Spec, path: Path) -> Pretrained:
    """The weights in a file of tf_keras.applications."""
    source = spec.keras
    assert source is not None
    head = keras_file.classes(path)

    def fill(model: Model, keep_head: bool) -> Model:
        theirs = transfer.application(source, spec.image_px, head or spec.classes, top=head is not None)
        try:
            theirs.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} does not hold the weights of {source.application} ({reason})") from None
        full = built(spec, px=spec.image_px, classes=head or spec.classes)
        transfer.copy_in_order(theirs, full, head=head is not None)
        if source.bgr:
            transfer.turn_stem(full)
        return transplant(full, rewrite.clone(model), keep_head)

    return Pretrained(
        label=path.name,
        sha256=_sha256(path),
        normalization=source.normalization,
        classes=imagenet.classes() if head == len(imagenet.classes()) else None,
        fill=fill,
    )


def _run(spec: Spec, path: Path) -> Pretrained:
    """The network of a finished run."""
    run = store.Run(path)
    if not (path / "provenance.json").is_file() or not (path / "model.h5").is_file():
        raise UserError(f"{path} is not a finished run with a model")
    if run.model != spec.name:
        raise UserError(f"{path} is a run of {run.model}, not of {spec.name}")
    if lineage.network(run) == "quantized":
        raise UserError(f"{path} is quantized; go on from the float run before it: {lineage.float_source(run).name}")
    facts = run.provenance

    def fill(model: Model, keep_head: bool) -> Model:
        network = saved.of_run(run)
        resized = network.input_shape != model.input_shape
        return rewrite.rewrite(network, _new_head(model, keep_head, resized), shape=model.input_shape[1:])

    return Pretrained(
        label=f"{run.model}/{run.name}",
        sha256=_sha256(path / "model.h5"),
        normalization=Normalization.from_json(facts["inputs"]["normalization"]),
        classes=tuple(facts["data"]["classes"]),
        fill=fill,
    )


def _new_head(model: Model, keep_head: bool, resized: bool) -> rewrite.Rule:
    """A rule that takes the layers that know the number of classes from `model`, with its random weights.

    Auxiliary classifiers end in windows of the whole grid, so they are new for another size, too.
    """
    fresh_ones = () if keep_head and not resized else ("aux",) if keep_head else transfer.HEADS

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        if not layer.name.startswith(fresh_ones):
            return None
        return rewrite.copied(model.get_layer(layer.name), x)

    return rule


def transplant(full: Model, model: Model, keep_head: bool) -> Model:
    """`model` with the weights of the layers of `full` that have the same names, its head's only if `keep_head`.

    Raises `UserError` where a layer other than the head's differs in shape, or is not there.
    """
    names = {layer.name for layer in full.layers}
    for layer in model.layers:
        if not layer.weights or (layer.name.startswith(transfer.HEADS) and not (keep_head and layer.name in names)):
            continue
        if layer.name not in names:
            raise UserError(f"the weights of {full.name} have no layer {layer.name}")
        arrays = full.get_layer(layer.name).get_weights()
        found, wanted = [a.shape for a in arrays], [tuple(w.shape) for w in layer.weights]
        if found != wanted:
            raise UserError(f"layer {layer.name} takes weights of shapes {wanted}, not {found}")
        layer.set_weights(arrays)
    return model


def _sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
