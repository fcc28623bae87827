"""The training loop. It is resumable to the bit.

All that the future depends on is saved after each epoch, and everything random is a function of (seed, epoch,
position): a run that was killed and called again ends with the same weights, on CPU, as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfcompact.files import write_arrays
from tfcompact.frameworks import keras
from tfcompact.training import strategy
from tfcompact.training.checkpoint import State
from tfcompact.training.context import Context
from tfcompact.training.evaluation import evaluator, validation
from tfcompact.training.hooks import Hook
from tfcompact.training.hyperparameters import Training
from tfcompact.training.norms import pace_norms
from tfcompact.training.optimizers import optimizer_for
from tfcompact.training.progress import Epochs, Log, stalled
from tfcompact.training.trainer import Trainer
from tfcompact.training.training_images import renew_norms, training_batches


def train(
    model: Any,
    config: Training,
    context: Context,
    *,
    hooks: Sequence[Hook] = (),
    from_start: bool = False,
) -> dict[str, Any]:
    """Trains `model` in place, leaves in it the weights of the best validation accuracy, and returns notes.

    `model` gives logits `[n, classes]`, and perhaps auxiliary ones after them, which count only for a hook. `hooks`
    are what a stage adds to the loop; without any, the loop has none of their cost.
    With `from_start` the weights it comes with are a candidate too, and stay where no epoch is better (epoch 0).
    Writes `metrics.csv`, `tensorboard/` and `last.npz` (the weights of the last epoch) to `context.directory`, and
    a checkpoint an epoch to `context.scratch`, from which the next call goes on. Raises `UserError` where the loss
    is no longer a number.
    """
    steps = context.data.steps_per_epoch(config.batch, config.epoch_images)
    pace_norms(model, steps)
    trainer = Trainer(model, config, context.data, hooks)
    extra = trainer.trained[len(model.trainable_variables) :]
    trainer.compile(optimizer=optimizer_for(config, steps, model, extra))
    state = State(trainer, context)
    if from_start and not state.epoch:
        state.start(evaluator(model)(validation(config, context))[1])
    if state.epoch:
        context.log(f"goes on after epoch {state.epoch} of {config.epochs}")
    if state.epoch < config.epochs and not stalled(state.rows, config.early_stopping):
        images = training_batches(config, context, start_epoch=state.epoch, epochs=config.epochs)
        images = strategy.shared(images, config.batch)
        epochs = Epochs(state, config, context, steps)
        try:
            with strategy.together(lambda: f"the training goes on after epoch {state.epoch}"):
                trainer.fit(
                    images,
                    steps_per_epoch=steps,
                    initial_epoch=state.epoch,
                    epochs=config.epochs,
                    verbose=0,
                    callbacks=[epochs],
                )
        finally:
            epochs.close()  # or an interrupted bar would keep the terminal's cursor
    return _conclude(trainer, state, config, context)


def _conclude(trainer: Trainer, state: State, config: Training, context: Context) -> dict[str, Any]:
    network = trainer.network
    if not state.rows:
        return {"epochs": 0}
    Log(context.directory, state.rows).close()  # a kill may have come between the checkpoint and the log
    with trainer.averages_in_place():
        write_arrays(
            context.directory / "last.npz", {f"{i:04d}": value for i, value in enumerate(network.get_weights())}
        )
    network.set_weights(state.best)
    evaluate = evaluator(network)
    best = state.best_accuracy
    rows = [row for row in state.rows if row.get("kept", 1.0)]
    candidates = [(0, state.started_at), *((int(r["epoch"]), r["validation_accuracy"]) for r in rows)]
    notes = {
        "epochs": state.epoch,
        "best_epoch": next(epoch for epoch, accuracy in candidates if accuracy == best),
        "validation_accuracy": best,
        "norms_reestimated": False,
    }
    if config.norm_batches and any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers):
        kept = network.get_weights()
        renew_norms(network, config, context, epoch=config.epochs)
        _, accuracy = evaluate(validation(config, context))
        if accuracy >= best:
            notes |= {"validation_accuracy": accuracy, "norms_reestimated": True}
        else:
            network.set_weights(kept)
    return notes
