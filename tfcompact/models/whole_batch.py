"""The two layers that look at a batch as a whole, made to see all of it where replicas share it.

Stock layers normalize and drop by the images that their own replica has: two workers of 16 images train another
network than one process of 32. These give the same as that process does, but for the rounding of sums. They bear the
stock layers' names, so a saved model holds stock layers; without a strategy they do what those do, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

from tfcompact.frameworks import Tensor, Variable, keras, tf


class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization by the statistics of all replicas' images, `[n, …, c]`, one all-reduce a layer and pass."""

    def add_weight(self, name: str | None = None, **options: object) -> Variable:
        # All replicas compute the same moving statistics. Keras would let each have its own and average them over
        # the network whenever one is read, which every worker would have to do at the same moment.
        alike = {"synchronization": tf.VariableSynchronization.AUTO, "aggregation": tf.VariableAggregation.NONE}
        return super().add_weight(name, **options | alike)

    def call(self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        replica = tf.distribute.get_replica_context()  # None where the whole batch is in one place
        if training is not True or replica is None or replica.num_replicas_in_sync == 1:
            return super().call(inputs, mask=mask, training=training)
        x = tf.cast(inputs, self._param_dtype)
        axes = list(range(x.shape.rank - 1))
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]) * replica.num_replicas_in_sync, x.dtype)
        # Around the moving mean, which is near: E[x^2] - E[x]^2 would lose digits where the mean is large.
        about = tf.stop_gradient(tf.convert_to_tensor(self.moving_mean))
        apart = x - about
        sums = tf.stack([tf.reduce_sum(apart, axes), tf.reduce_sum(tf.square(apart), axes)])
        offset, square = tf.unstack(_summed(sums) / count)
        mean, variance = about + offset, tf.maximum(square - tf.square(offset), 0.0)
        unbiased = count / tf.maximum(count - 1, 1) if self.fused else 1.0  # as the fused kernel keeps it
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance * unbiased)):
            moving.assign_sub((moving - tf.stop_gradient(value)) * (1 - self.momentum))
        out = tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)
        return tf.cast(out, inputs.dtype)


@tf.custom_gradient
def _summed(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The sum of the replicas' `x`, whose gradient is the sum of the replicas' gradients.

    `all_reduce` knows that too, but looks for variables in all that other replicas of this process have computed,
    in each layer anew: MobileNetV2's graph for two of them takes 134 s of CPU. Before `stop_gradient` it ends: 18 s.
    """

    def reduced(value: Tensor) -> Tensor:
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.stop_gradient(value))

    return reduced(x), reduced


class Dropout(keras.layers.Dropout):
    """Dropout whose mask is drawn for the images of all replicas, each of which takes its part."""

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if training is not True or not tf.distribute.has_strategy() or not self.rate:
            return super().call(inputs, training=training)
        strategy, replica = tf.distribute.get_strategy(), tf.distribute.get_replica_context()
        place, parts = (replica.replica_id_in_sync_group, replica.num_replicas_in_sync) if replica else (0, 1)
        generator = self._random_generator._generator

        def part(shape: object, dtype: object) -> Tensor:
            # As `generator.uniform` draws, but for the replica's number, which that mixes into the key.
            sizes = tf.convert_to_tensor(shape)
            whole = tf.concat([sizes[:1] * parts, sizes[1:]], 0)
            state = strategy.experimental_local_results(generator.skip(tf.reduce_prod(whole)))[0]
            counter, key = tf.bitcast(state[:2], tf.uint64), tf.bitcast(state[2:3], tf.uint64)
            numbers = tf.raw_ops.StatelessRandomUniformV2(
                shape=whole, key=key, counter=counter, alg=generator.algorithm, dtype=dtype
            )
            return numbers[place * sizes[0] : (place + 1) * sizes[0]]

        return tf.nn.experimental.general_dropout(
            inputs, self.rate, uniform_sampler=part, noise_shape=self._get_noise_shape(inputs)
        )


def layers_in_scope() -> dict[str, type]:
    """The two layers by the names of the stock ones: these where replicas share a batch, the stock ones elsewhere."""
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        return {"BatchNormalization": BatchNormalization, "Dropout": Dropout}
    return {"BatchNormalization": keras.layers.BatchNormalization, "Dropout": keras.layers.Dropout}
