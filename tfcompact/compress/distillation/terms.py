"""The terms of distillation as functions of tensors: logits `[n, classes]`, features `[n, h, w, c]`.

Losses are `[n]`, one for each image, but for attention and hints, whose means are numbers.
"""

from __future__ import annotations

from tfcompact.frameworks import Tensor, tf

FAR = 1e9  # taken from a logit, it leaves no probability in 32 bits


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """The cross-entropy of both softened by `temperature`, times its square (arXiv:1503.02531).

    It is Kullback and Leibler's divergence but for the teacher's entropy, which has no gradient.
    """
    soft = tf.nn.softmax(teacher / temperature)
    return temperature**2 * tf.nn.softmax_cross_entropy_with_logits(soft, student / temperature)


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """`T^2 KL(teacher || student)` of both softened: 0 where they agree."""
    log_t, log_s = (tf.nn.log_softmax(logits / temperature) for logits in (teacher, student))
    return temperature**2 * tf.reduce_sum(tf.exp(log_t) * (log_t - log_s), -1)


def decoupled(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The two parts of the divergence, each times `T^2`: of the target's share, and among the other classes.

    `labels` are one-hot. Decoupled distillation (arXiv:2203.08679): the divergence is the first plus `1 - p` times
    the second, p the teacher's probability of the target.
    """
    log_t, log_s = (tf.nn.log_softmax(logits / temperature) for logits in (teacher, student))
    hit_t, hit_s = (tf.reduce_sum(labels * tf.exp(log), -1) for log in (log_t, log_s))
    tiny = tf.constant(1e-30 if student.dtype == tf.float32 else 1e-300, student.dtype)

    def share(p: Tensor, q: Tensor) -> Tensor:
        return p * (tf.math.log(tf.maximum(p, tiny)) - tf.math.log(tf.maximum(q, tiny)))

    target = share(hit_t, hit_s) + share(1 - hit_t, 1 - hit_s)
    others = divergence(student / temperature - FAR * labels, teacher / temperature - FAR * labels)
    return temperature**2 * target, temperature**2 * others


def attention(features: Tensor, power: float = 2.0) -> Tensor:
    """Where features are strong: the mean over channels of their absolute values' power, as vectors of length 1."""
    maps = tf.reduce_mean(tf.abs(features) ** power, -1)
    return tf.math.l2_normalize(tf.reshape(maps, [-1, maps.shape[1] * maps.shape[2]]), 1)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean square difference of two attention maps of the same size (arXiv:1612.03928)."""
    return tf.reduce_mean(tf.square(attention(student) - attention(teacher)))


def regressed(features: Tensor, kernel: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """What a regressor, a 1x1 convolution with normalization, makes of features `[n, h, w, c]`: `[n, h, w, out]`.

    Normalized, it does not depend on how large the student's features are: those of networks without normalization
    are large, and their hints would drown every other term.
    """
    made = tf.einsum("nhwc,co->nhwo", features, kernel)
    mean, variance = tf.nn.moments(made, [0, 1, 2])
    return tf.nn.batch_normalization(made, mean, variance, shift, scale, 1e-5)


def hint_loss(guess: Tensor, features: Tensor) -> Tensor:
    """The mean square difference of what a regressor makes of the student's features from the teacher's.

    The teacher's are divided by their standard deviation over the batch, so that the weight means the same for every
    teacher (hints: arXiv:1412.6550).
    """
    scale = tf.math.reduce_std(features) + 1e-6
    return tf.reduce_mean(tf.square(guess - features / scale))


def sized(features: Tensor, height: int, width: int) -> Tensor:
    """Features averaged over areas to a smaller size, or stretched to a larger one."""
    _, h, w, _ = features.shape
    if (h, w) == (height, width):
        return features
    if h % height == 0 and w % width == 0:
        steps = (h // height, w // width)
        return tf.nn.avg_pool2d(features, steps, steps, "VALID")
    return tf.image.resize(features, (height, width), method="bilinear", antialias=True)
