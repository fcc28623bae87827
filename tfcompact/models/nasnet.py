"""NASNet-A: two cells found by search, stacked.

Paper: Zoph et al. 2017, arXiv:1707.07012; `NORMAL` and `REDUCTION` are its Figure 4. Depths, widths and drop path are
TF-slim's (nets/nasnet/nasnet.py). Drop path leaves out a cell's operation with a probability that grows linearly with
the cell's place, as there; that it also grows over the steps of the training is not done here. Poolings with stride 2
see zeros beyond the border, as in keras.applications, whose weights are published; TF-slim leaves the border out.
"""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import activation, bare, classifier, conv, drop, logits, norm, separable
from tfcompact.models.spec import HALVES, KerasWeights, ModelSpec, Params, TorchWeights

# A cell's states: 0 what the last cell gave, 1 what the one before it gave, 2 to 6 the sums of the pairs below.
Operation = tuple[str, int]  # what is done to which state
PAIRS = tuple[tuple[Operation, Operation], ...]
NORMAL: PAIRS = (
    (("separable5", 0), ("separable3", 1)),
    (("separable5", 1), ("separable3", 1)),
    (("average", 0), ("identity", 1)),
    (("average", 1), ("average", 1)),
    (("separable3", 0), ("identity", 0)),
)
REDUCTION: PAIRS = (  # what reads state 0 or 1 halves the map
    (("separable5", 0), ("separable7", 1)),
    (("maximum", 0), ("separable7", 1)),
    (("average", 0), ("separable5", 1)),
    (("identity", 3), ("average", 2)),
    (("separable3", 2), ("maximum", 0)),
)
NORMAL_OUTPUT, REDUCTION_OUTPUT = (1, 2, 3, 4, 5, 6), (3, 4, 5, 6)  # the states that are concatenated


class Net(NamedTuple):
    """One row of TF-slim's configurations; a name N @ P is N = cells / 3 and P = 24 * filters."""

    cells: int  # normal ones, with a reduction before the second and the last third
    filters: int  # of the first third, doubled by each reduction
    stem: int
    photographs: bool = True  # a stem that divides the size by eight; otherwise it keeps it
    skip: bool = False  # what follows a reduction reads past the cell before it
    keep: float = 1.0  # probability that an operation of the last cell is kept
    dropout: float = 0.5
    epsilon: float = 1e-3
    aux: int = 4  # the grid at which the auxiliary head ends, at the published size


NETS = {
    "nasnet_mobile": Net(cells=12, filters=44, stem=32),  # 4 @ 1056
    "nasnet_large": Net(cells=18, filters=168, stem=96, skip=True, keep=0.7, aux=6),  # 6 @ 4032
    "nasnet_cifar": Net(18, 32, stem=96, photographs=False, keep=0.6, dropout=0.0, epsilon=1e-5),  # 6 @ 768
}


class Cell(NamedTuple):
    """What all operations of one cell have in common."""

    name: str
    filters: int
    stride: int
    dropped: float  # probability that an operation is left out
    epsilon: float


def pointwise(x: Tensor, cell: Cell, *, act: bool = True, name: str) -> Tensor:
    """ReLU (if `act`), 1x1 convolution, batch normalization: `[n, h, w, c] -> [n, h, w, filters]`."""
    x = activation(x, "relu" if act else None, name)
    return conv(x, cell.filters, act=None, epsilon=cell.epsilon, name=name)


def shifted(x: Tensor, cell: Cell, *, name: str) -> Tensor:
    """Half the size with nothing lost: 1x1 convolutions on the even and on the odd positions, side by side."""
    x = activation(x, "relu", name)
    even = bare(x, cell.filters // 2, 1, 2, name=f"{name}_even")
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    x = keras.layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}_crop")(x)
    odd = bare(x, cell.filters // 2, 1, 2, name=f"{name}_odd")
    x = keras.layers.Concatenate(name=f"{name}_both")([even, odd])
    return norm(x, epsilon=cell.epsilon, name=f"{name}_both_bn")


def operation(kind: str, x: Tensor, cell: Cell, stride: int, *, name: str) -> Tensor:
    """One operation of a pair: `[n, h, w, c] -> [n, h/stride, w/stride, filters]`."""
    fits = x.shape[-1] == cell.filters
    if kind == "identity":
        return x if fits else pointwise(x, cell, name=name)
    if kind.startswith("separable"):
        kernel = int(kind[-1])
        for i, step in enumerate((stride, 1)):
            x = activation(x, "relu", f"{name}_{i}")
            x = separable(x, cell.filters, kernel, step, epsilon=cell.epsilon, name=f"{name}_{i}")
    else:
        pool = keras.layers.AveragePooling2D if kind == "average" else keras.layers.MaxPooling2D
        x = pool(3, stride, "valid" if stride > 1 else "same", name=f"{name}_{kind}")(x)
        x = x if fits else pointwise(x, cell, act=False, name=name)
    return drop(x, cell.dropped, whole=True, name=f"{name}_drop") if cell.dropped else x


def nasnet_cell(x: Tensor, before: Tensor | None, cell: Cell) -> Tensor:
    """A cell: `x` and the output `before` it `-> [n, h/stride, w/stride, filters of all its outputs]`."""
    name, pairs = cell.name, NORMAL if cell.stride == 1 else REDUCTION
    if before is None:
        before = x
    elif before.shape[2] != x.shape[2]:
        before = shifted(before, cell, name=f"{name}_before")
    elif before.shape[-1] != cell.filters:
        before = pointwise(before, cell, name=f"{name}_before")
    states = [pointwise(x, cell, name=f"{name}_current"), before]
    from tfcompact.models.layers import SamePadding

    padded = SamePadding(3, name=f"{name}_pad")(states[0]) if cell.stride > 1 else states[0]
    for i, pair in enumerate(pairs):
        ends = []
        for side, (kind, state) in zip(("left", "right"), pair, strict=True):
            stride = cell.stride if state < 2 else 1
            seen = padded if stride > 1 and kind in ("average", "maximum") else states[state]
            ends.append(operation(kind, seen, cell, stride, name=f"{name}_pair{i}_{side}"))
        states.append(keras.layers.Add(name=f"{name}_pair{i}")(ends))
    outputs = NORMAL_OUTPUT if cell.stride == 1 else REDUCTION_OUTPUT
    if cell.stride == 1 and states[1].shape[-1] != cell.filters:  # only in the first cell of the CIFAR network
        states[1] = pointwise(states[1], cell, act=False, name=f"{name}_output")
    return keras.layers.Concatenate(name=name)([states[i] for i in outputs])


def nasnet(shape: tuple[int, int, int], classes: int, *, net: Net, name: str, aux: bool = False) -> Model:
    """Builds the network; with `aux` its second output is the auxiliary classifier's logits `[n, classes]`."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    stride, padding = (2, "valid") if net.photographs else (1, "same")
    x = conv(inputs, net.stem, 3, stride, None, padding=padding, epsilon=net.epsilon, name="stem")
    stems = (0.25, 0.5) if net.photographs else ()
    total = len(stems) + net.cells + 2
    done = 0

    def cell(x: Tensor, before: Tensor | None, name: str, scale: float, stride: int) -> Tensor:
        nonlocal done
        done += 1
        dropped = (1 - net.keep) * done / total
        return nasnet_cell(x, before, Cell(name, int(net.filters * scale), stride, dropped, net.epsilon))

    before: Tensor | None = None
    side = x
    for i, scale in enumerate(stems):
        x, before = cell(x, before, f"stem{i}", scale, 2), x
    for i in range(net.cells):
        third, place = divmod(i, net.cells // 3)
        past = before
        if third and not place:
            side = x  # in the end, what the last reduction reads
            x, before = cell(x, before, f"reduction{third - 1}", 2**third, 2), x
        x, before = cell(x, past if net.skip else before, f"cell{i}", 2**third, 1), x
    x = activation(x, "relu", "last")
    outputs = [classifier(x, classes, dropout=net.dropout)]
    if aux:
        outputs.append(auxiliary(side, classes, net))
    return keras.Model(inputs, outputs if aux else outputs[0], name=name)


def auxiliary(x: Tensor, classes: int, net: Net) -> Tensor:
    """The side classifier on the last cell before the second reduction: `[n, h, w, c] -> [n, classes]`.

    Its windows shrink with the grid, so that it works at the smallest image the network takes.
    """
    x = activation(x, "relu", "aux")
    x = keras.layers.AveragePooling2D(min(5, x.shape[1]), 3, "valid", name="aux_average")(x)
    x = conv(x, 128, act="relu", epsilon=net.epsilon, name="aux_0")
    kernel = min(net.aux, x.shape[1])
    x = conv(x, 768, kernel, act="relu", padding="valid", epsilon=net.epsilon, name="aux_1")  # 1 x 1
    x = keras.layers.GlobalAveragePooling2D(name="aux_pool")(x)  # a mean of one value, but for larger images
    return logits(x, classes, dropout=0.0, name="aux_logits")


CELLS = {"stem": "cell_stem_", "reduction": "reduction_cell_", "cell": "cell_"}
INPUTS = {
    **{"current": "conv_1x1.conv", "current_bn": "conv_1x1.bn"},
    **{"before": "conv_prev_1x1.conv", "before_bn": "conv_prev_1x1.bn"},
    **{"before_even": "path_1.conv", "before_odd": "path_2.conv", "before_both_bn": "final_path_bn"},
}


def timm(layer: str) -> str:
    """timm's module path of one of our layers; it has no auxiliary head."""
    outside = {"stem": "conv0.conv", "stem_bn": "conv0.bn", "logits": "last_linear"}
    if layer in outside or layer.startswith("aux"):
        return outside.get(layer, layer)
    kind, number, place = re.fullmatch(r"([a-z]+)(\d+)_(\w+)", layer).groups()  # type: ignore[union-attr]
    cell = f"{CELLS[kind]}{number}"
    if place in INPUTS:
        return f"{cell}.{INPUTS[place]}"
    pair, side, half, part = re.fullmatch(r"pair(\d)_(\w+)_(\d)(_\w+)?", place).groups()  # type: ignore[union-attr]
    module = f"{'bn_sep' if part == '_bn' else 'separable'}_{int(half) + 1}"
    convolution = {"_bn": "", "_depthwise": ".depthwise_conv2d", None: ".pointwise_conv2d"}[part]
    return f"{cell}.comb_iter_{pair}_{side}.{module}{convolution}"


def _spec(
    name: str,
    px: int,
    params: Params,
    macs: int,
    top1: float,
    source: str,
    *,
    keras: KerasWeights | None = None,
    torch: tuple[TorchWeights, ...] = (),
    classes: int = 1000,
) -> ModelSpec:
    net = NETS[name]
    return ModelSpec(
        name=name,
        family="nasnet",
        build=partial(nasnet, net=net, name=name),
        image_px=px,
        min_px=32 if net.photographs else 4,
        params=params,
        macs=macs,
        top1=top1,
        source=f"arXiv:1707.07012, {source}; TF-slim nets/nasnet",
        aux_weight=0.4,
        classes=classes,
        keras=keras,
        torch=torch,
    )


# fmt: off
SPECS = (
    _spec("nasnet_mobile", 224, Params(5_289_978, 36_738), 563_638_816, 74.0, "Table 3",
          keras=KerasWeights("NASNetMobile", HALVES)),
    _spec("nasnet_large", 331, Params(88_753_150, 196_668), 23_783_414_658, 82.7, "Table 2",
          keras=KerasWeights("NASNetLarge", HALVES),
          torch=(TorchWeights("timm", "nasnetalarge", timm, HALVES, epsilon=1e-3, symmetric=False),)),
    _spec("nasnet_cifar", 32, Params(3_346_538, 37_248), 544_333_312, 97.35, "Table 1 (trained with cutout)",
          classes=10),
)
# fmt: on
