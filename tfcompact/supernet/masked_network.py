"""The network that holds every member of a space, made of masked layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfcompact.errors import UserError
from tfcompact.frameworks import Tensor, Variable, tf
from tfcompact.models.architecture import ACTS, SKIPS, Architecture, Row
from tfcompact.models.blocks import round_channels
from tfcompact.models.space import Choices, Space
from tfcompact.supernet.masked_layers import (
    Norm,
    Switches,
    activated,
    chosen,
    first,
    is_on,
    middle,
    resized,
)

GATES = {False: 0, True: 1, "input": 2}
DROPOUT = 0.2  # before the logits, as `architecture.build` has it


class MaskedNetwork:
    """Logits of any member of a space, from one set of weights: the member's are the first of each.

    Built for one image size, one width and one outer nonlinearity; the space's others take networks of their own.
    Raises `UserError` where the space has several of them.
    """

    def __init__(self, space: Space, *, dropout: float = DROPOUT) -> None:
        for name in ("px", "width", "outer_act"):
            if len(getattr(space, name)) > 1:
                raise UserError(f"a supernet is of one {name}; the space has {len(getattr(space, name))}: leave one")
        self.space, self.dropout = space, dropout
        self.px, self.width, self.act = space.px[0], space.width[0], space.outer_act[0]
        self.switches = Switches()
        self.variables: dict[str, Variable] = {}
        self.norms: dict[str, Norm] = {}
        self._built = False
        self(tf.zeros((1, self.px, self.px, 3)), training=False)
        self._built = True

    @property
    def trainable_variables(self) -> list[Variable]:
        """What is trained, in order."""
        return [*self.variables.values(), *(v for norm in self.norms.values() for v in (norm.gamma, norm.beta))]

    def __call__(self, images: Tensor, *, training: bool) -> Tensor:
        """Normalized images `[n, px, px, 3]` -> logits `[n, classes]` of the member that the switches say."""
        space = self.space
        x = self._conv(images, self._scaled(space.stem), 3, 2, name="stem", training=training)
        x = activated(x, self.act)
        widths: tuple[int, ...] = (self._scaled(space.stem),)
        for i, row in enumerate(space.rows):
            outs = tuple(map(self._scaled, row.outs))
            for j in range(max(row.repeats)):
                name = f"block{i}_{j}"
                y = self._block(x, row, widths if j == 0 else outs, row.stride if j == 0 else 1, i, j, name, training)
                if j >= min(row.repeats):
                    there = is_on(self.switches.number(f"{name}.there", 1))
                    y = there * y + (1 - there) * x
                x = y
            widths = outs
        x = activated(self._conv(x, self._scaled(space.head), 1, 1, name="head", training=training), self.act)
        x = tf.reduce_mean(x, [1, 2], keepdims=True)
        if space.features:
            x = activated(self._dense(x, space.features, name="last"), self.act)
        if training and self.dropout:
            x = tf.nn.dropout(x, self.dropout)
        return self._dense(x, space.classes, name="logits")[:, 0, 0]

    def _scaled(self, channels: int) -> int:
        return round_channels(channels * self.width)

    def _block(
        self, x: Tensor, row: Choices, widths: tuple[int, ...], stride: int, i: int, j: int, name: str, training: bool
    ) -> Tensor:
        """One block in every form that it may have."""
        outs = tuple(map(self._scaled, row.outs))
        out = max(outs)
        out_mask = first(self.switches.number(f"row{i}.out", out), out)
        kernel = self.switches.number(f"row{i}.kernel", max(row.kernel))
        ways = {}
        if "mbconv" in row.op:
            y = self._expanded(x, row, widths, i, name, training)
            y = self._depthwise(y, max(row.kernel), kernel, stride, name=f"{name}_depthwise", training=training)
            y = self._acted(y, row, i) * self._hidden_mask(row, widths, i, j)
            y = self._gated(y, row, widths, i, name)
            ways[0] = self._conv(y, out, 1, 1, name=f"{name}_project", training=training)
        if "conv" in row.op:
            y = self._conv(x, out, max(row.kernel), stride, name=f"{name}_conv", training=training, kernel=kernel)
            y = self._acted(y, row, i) * out_mask
            ways[1] = self._gated(y, row, widths, i, f"{name}_conv")
        y = chosen(self.switches.number(f"row{i}.op", 1), ways) * out_mask
        return y + self._past(x, y, row, i, j, stride, name)

    def _past(self, x: Tensor, y: Tensor, row: Choices, i: int, j: int, stride: int, name: str) -> Tensor:
        """What joins a block's input with its output."""
        skip = self.switches.number(f"row{i}.skip", len(SKIPS) - 1)
        joins = is_on(self.switches.number(f"{name}.joins", 1))
        kept = resized(x, y.shape[-1])
        options = {SKIPS.index("none"): tf.zeros_like(y)}
        if stride == 1 and "identity" in row.skip:
            options[SKIPS.index("identity")] = kept
        if "pool" in row.skip:
            options[SKIPS.index("pool")] = tf.nn.avg_pool2d(kept, 3, stride, "SAME")
        return joins * chosen(skip, options)

    def _expanded(
        self, x: Tensor, row: Choices, widths: tuple[int, ...], i: int, name: str, training: bool
    ) -> Tensor:
        """The block's input with more channels, or as it is."""
        most = widest(row, widths)
        if max(row.expansion) == 1:
            return resized(x, most)
        y = self._acted(self._conv(x, most, 1, 1, name=f"{name}_expand", training=training), row, i)
        if min(row.expansion) > 1:
            return y
        expands = is_on(self.switches.number(f"row{i}.expands", 1))
        return expands * y + (1 - expands) * resized(x, most)

    def _hidden_mask(self, row: Choices, widths: tuple[int, ...], i: int, j: int) -> Tensor:
        most = widest(row, widths)
        return first(self.switches.number(f"block{i}_{j}.hidden", most), most)

    def _acted(self, x: Tensor, row: Choices, i: int) -> Tensor:
        options = {ACTS.index(act): activated(x, act) for act in row.act}
        return chosen(self.switches.number(f"row{i}.act", len(ACTS) - 1), options)

    def _gated(self, y: Tensor, row: Choices, widths: tuple[int, ...], i: int, name: str) -> Tensor:
        """`y` under the gates that the row may have."""
        if row.squeeze == (False,):
            return y
        options = {GATES[False]: tf.ones_like(y[:, :1, :1])}
        mean = tf.reduce_mean(y, [1, 2], keepdims=True)
        for kind, most in (
            (True, round_channels(y.shape[-1] / 4)),
            ("input", max(1, max(widths) // 4)),
        ):
            if not any(kind is one or kind == one == "input" for one in row.squeeze):
                continue
            word = f"{name}_se" if kind is True else f"{name}_se_input"
            squeezed = tf.nn.relu(self._dense(mean, most, name=f"{word}_reduce"))
            squeezed *= first(self.switches.number(f"{word}.squeezed", most), most)
            gate = self._dense(squeezed, y.shape[-1], name=f"{word}_expand")
            options[GATES[kind]] = tf.nn.relu6(gate + 3) / 6 if kind is True else tf.sigmoid(gate)
        if False not in row.squeeze:
            del options[GATES[False]]
        return y * chosen(self.switches.number(f"row{i}.squeeze", len(GATES) - 1), options)

    def _variable(self, name: str, shape: tuple[int, ...]) -> Variable:
        if not self._built:
            self.variables[name] = tf.Variable(tf.zeros(shape), name=name)
        return self.variables[name]

    def _norm(self, x: Tensor, name: str, *, training: bool) -> Tensor:
        if not self._built:
            self.norms[f"{name}_bn"] = Norm(x.shape[-1], f"{name}_bn")
        return self.norms[f"{name}_bn"](x, training=training)

    def _conv(
        self,
        x: Tensor,
        out: int,
        size: int,
        stride: int,
        *,
        name: str,
        training: bool,
        kernel: Variable | None = None,
    ) -> Tensor:
        """A convolution and batch normalization; `kernel` is how much of the kernel is used."""
        weights = self._variable(name, (size, size, x.shape[-1], out))
        used = weights if kernel is None else weights * middle(kernel, size)
        return self._norm(tf.nn.conv2d(x, used, stride, "SAME"), name, training=training)

    def _depthwise(self, x: Tensor, size: int, kernel: Variable, stride: int, *, name: str, training: bool) -> Tensor:
        weights = self._variable(name, (size, size, x.shape[-1], 1)) * middle(kernel, size)
        y = tf.nn.depthwise_conv2d(x, weights, [1, stride, stride, 1], "SAME")
        return self._norm(y, name, training=training)

    def _dense(self, x: Tensor, out: int, *, name: str) -> Tensor:
        """A convolution of 1x1 with a bias."""
        y = tf.nn.conv2d(x, self._variable(name, (1, 1, x.shape[-1], out)), 1, "SAME")
        found: Tensor = y + self._variable(f"{name}/bias", (out,))
        return found


def widest(row: Choices, widths: tuple[int, ...]) -> int:
    """The most channels between the convolutions of a block that reads one of these widths."""
    return max(expanded(k, expansion) for k in widths for expansion in row.expansion)


def expanded(k: int, expansion: float) -> int:
    """The channels between the convolutions of a block."""
    return round_channels(k * expansion) if expansion > 1 else k


def switches_of(space: Space, architecture: Architecture) -> dict[str, int]:
    """The switches under which a `MaskedNetwork` of the space is the architecture.

    Raises `UserError` where it is no member.
    """
    space.choices(architecture)  # tells a stranger
    found: dict[str, int] = {}
    k = round_channels(space.stem * architecture.width)
    for i, (choices, row) in enumerate(zip(space.rows, architecture.rows, strict=True)):
        out = round_channels(row.out * architecture.width)
        found |= _of_row(choices, row, i, out)
        for j in range(max(choices.repeats)):
            name = f"block{i}_{j}"
            if j >= min(choices.repeats):
                found[f"{name}.there"] = int(j < row.repeats)
            joins = k == out and not (j == 0 and row.stride > 1 and row.skip == "identity") and row.skip != "none"
            found[f"{name}.joins"] = int(joins)
            if "mbconv" in choices.op:
                found[f"{name}.hidden"] = expanded(k, row.expansion)
            for word, hidden in _gates(choices, name, k, row, out):
                found[word] = hidden
            k = out
    return found


def _of_row(choices: Choices, row: Row, i: int, out: int) -> dict[str, int]:
    """The switches that all blocks of a row have in common."""
    found = {
        f"row{i}.out": out,
        f"row{i}.kernel": row.kernel,
        f"row{i}.op": int(row.op == "conv"),
        f"row{i}.skip": SKIPS.index(row.skip),
        f"row{i}.act": ACTS.index(row.act),
    }
    if choices.squeeze != (False,):
        found[f"row{i}.squeeze"] = GATES[row.squeeze]
    if "mbconv" in choices.op and min(choices.expansion) == 1 < max(choices.expansion):
        found[f"row{i}.expands"] = int(row.expansion > 1)
    return found


def _gates(choices: Choices, name: str, k: int, row: Row, out: int) -> list[tuple[str, int]]:
    """How many channels each gate of a block is squeezed to."""
    found = []
    ways: Mapping[str, tuple[str, Any]] = {
        "mbconv": (name, expanded(k, row.expansion)),
        "conv": (f"{name}_conv", out),
    }
    for op in choices.op:
        word, wide = ways[op]
        if True in [one for one in choices.squeeze if one is True]:
            found.append((f"{word}_se.squeezed", round_channels(wide / 4)))
        if "input" in choices.squeeze:
            found.append((f"{word}_se_input.squeezed", max(1, k // 4)))
    return found
