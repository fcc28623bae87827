"""Knowledge distillation: a network learns from another run's, of any architecture, what the labels do not say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tfcompact.data.images import normalize, pixels_of
from tfcompact.errors import UserError
from tfcompact.frameworks import Model, tf
from tfcompact.options import opt, require
from tfcompact.stages.contract import Notes, Stage
from tfcompact.training.context import Context, Loaded
from tfcompact.training.hyperparameters import Training, require_full_precision, training_text

TERMS = ("kd", "dkd", "hint", "attention")


@dataclass(frozen=True)
class Config(Training):
    """Options of `distill`."""

    teacher: str = opt(
        "", "a finished run to learn from: fit-3f9a10c2, or inception_v3/fit-3f9a10c2 of another network"
    )
    weights: str | None = opt(
        None,
        "what the student starts from: imagenet, a run's directory, or a file (.h5, .safetensors, .pth); else random",
    )
    ce: float = opt(0.1, "weight of the cross-entropy with the labels")
    kd: float = opt(0.9, "weight of the divergence from the teacher's softened probabilities")
    dkd: float = opt(0.0, "weight of decoupled distillation: alpha for the target, beta for the other classes")
    hint: float = opt(0.0, "weight of the difference of features after a regressor that is trained with them")
    attention: float = opt(0.0, "weight of the difference of where features are strong; 1000 is usual")
    temperature: float = opt(4.0, "what logits are divided by, for kd and dkd")
    dkd_alpha: float = opt(1.0, "dkd: weight of the target's share")
    dkd_beta: float = opt(8.0, "dkd: weight of the other classes")
    dkd_warmup: float = opt(1.0, "dkd: epochs over which it grows to its weight")
    pairs: tuple[str, ...] = opt((), "hint, attention: layers to compare as STUDENT:TEACHER; those of equal stride")
    label_smoothing: float = opt(0.0, "share of each label that is spread over all classes, in [0, 1)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_full_precision(self)
        for name in ("ce", *TERMS, "dkd_alpha", "dkd_beta", "dkd_warmup"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(self.temperature > 0, "temperature", self.temperature, "positive")
        for pair in self.pairs:
            require(pair.count(":") == 1, "pairs", pair, "STUDENT:TEACHER, two names of layers")
        if self.dkd and (self.augment.mixup or self.augment.cutmix):
            raise UserError(
                "dkd needs one class for each image, which MixUp and CutMix take away; leave one of them "
                "out, or take kd"
            )


def run(model: Model, config: Config, context: Context) -> tuple[Model, Notes]:
    """A trained copy of `model` that has learned from the teacher too, and what became of it.

    Both see the same crops, each at its own size and normalization; classes are matched by name. Raises `UserError`
    without a teacher, for one that lacks a class, and for layers that are not there.
    """
    from tfcompact.compress.distillation.teachers import Pair, Teacher, Weights, pairs_by_stride
    from tfcompact.compress.sparsity.masks import kept_zeros, kernels_of
    from tfcompact.networks import rewrite
    from tfcompact.training import loop
    from tfcompact.training.hooks import AuxiliaryHead

    if not config.teacher:
        raise UserError("distill needs a teacher; give a finished run with --teacher (tfcompact runs lists them)")
    if not any(getattr(config, term) for term in TERMS):
        raise UserError(
            "no term of distillation has a weight; give --kd, --dkd, --hint or --attention one, or take fit"
        )
    teacher = context.load(config.teacher)
    if missing := [name for name in context.data.classes if name not in teacher.classes]:
        raise UserError(
            f"{teacher.run} does not know class {missing[0]!r} ({len(missing)} of {len(context.data.classes)} are "
            "missing); take a teacher that was trained on these classes"
        )
    network = rewrite.clone(model)
    pairs: list[Pair] = []
    if config.hint or config.attention:
        named = [Pair(*pair.split(":")) for pair in config.pairs]
        pairs = named or pairs_by_stride(network, teacher.model)
        _check(pairs, network, teacher)
    steps = context.data.steps_per_epoch(config.batch, config.epoch_images)
    weights = Weights(
        *(config.ce, config.kd, config.dkd, config.hint, config.attention, config.temperature),
        *(config.dkd_alpha, config.dkd_beta, round(config.dkd_warmup * steps)),
    )
    columns = [teacher.classes.index(name) for name in context.data.classes]
    hook = Teacher(network, teacher.model, _sight(teacher, context), columns, weights, pairs, context.seed)
    heads = [AuxiliaryHead(i, context.spec.aux_weight or 0.0) for i in range(1, len(network.outputs))]
    notes = loop.train(network, config, context, hooks=[hook, *heads, *kept_zeros(kernels_of(network))])
    found = {"teacher": teacher.run, "pairs": [list(pair) for pair in pairs]}
    return network, notes | found


def _sight(teacher: Loaded, context: Context) -> Callable[[Any], Any]:
    """What makes of the student's images `[n, px, px, 3]` the teacher's: another size, another normalization."""

    def see(images: Any) -> Any:
        if (teacher.px, teacher.normalization) == (context.px, context.normalization):
            return images
        pixels = pixels_of(tf.cast(images, tf.float32), context.normalization)
        if teacher.px != context.px:
            pixels = tf.image.resize(pixels, (teacher.px, teacher.px), method="bilinear", antialias=True)
        return normalize(pixels, teacher.normalization)

    return see


def _check(pairs: list[Any], network: Model, teacher: Loaded) -> None:
    """Raises `UserError` where there is no pair, or one names a layer that has no features."""
    if not pairs:
        raise UserError(f"{teacher.run} has no layer of a stride that the student has; name some: --pairs A:B")
    for pair in pairs:
        for name, of in ((pair.student, network), (pair.teacher, teacher.model)):
            known = [layer.name for layer in of.layers if len(getattr(layer, "output_shape", ())) == 4]
            if name not in known:
                raise UserError(
                    f"{of.name} has no layer {name!r} with features; the last ones are {', '.join(known[-3:])}"
                )


def _summary(config: Config) -> str:
    used = " ".join(f"{term} {getattr(config, term):g}" for term in ("ce", *TERMS) if getattr(config, term))
    return f"from {config.teacher}: {used}, temperature {config.temperature:g}, {training_text(config)}"


STAGE = Stage(
    config=Config,
    run=run,
    version=2,
    takes=("float",),
    gives="float",
    starts_new=True,
    weights=lambda config: config.weights,
    loads=lambda config: (config.teacher,) if config.teacher else (),
    summary=_summary,
)
