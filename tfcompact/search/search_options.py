"""The options of a search. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass

from tfcompact.options import opt, require, require_choice
from tfcompact.search import rewards
from tfcompact.search.controllers import CONTROLLERS

TRAINERS = ("alone", "oneshot")


@dataclass(frozen=True)
class Config:
    """How a search goes."""

    space: str = opt("mnasnet", "mnasnet, mobilenet_v3_small, mobilenet_v3_large, or a space's .toml file")
    target_cost: float = opt(0.0, "what one inference may cost, in the unit of --table")
    controller: str = opt("evolution", f"what proposes: {', '.join(CONTROLLERS)}")
    reward: str = opt(
        "absolute", "how accuracy and cost are weighed: soft, hard (MnasNet), v3 or absolute (TuNAS: one cost)"
    )
    weight: float | None = opt(None, "the reward's exponent or beta, below 0; the papers' unless given")
    trainer: str = opt(
        "alone",
        "alone (each candidate by itself, as it will be) or oneshot (weights that all share: for large spaces)",
    )
    shared_epochs: int = opt(30, "oneshot: epochs in which the shared weights are trained")
    compared: int = opt(20, "oneshot: candidates that are trained alone too, to see how far the order is the same")
    trials: int = opt(100, "candidates to train, each once, by all workers together")
    epochs: int = opt(3, "epochs of a candidate")
    epoch_images: int = opt(10000, "training images in each of them")
    validation_images: int = opt(2000, "validation images that judge a candidate")
    finalists: int = opt(3, "best candidates that are trained again with other seeds; the best mean of all wins")
    finalist_seeds: int = opt(2, "other seeds of each of them")
    study: str = opt("search", "the name under which workers find each other's trials")
    storage: str | None = opt(
        None, "where the trials are: a file (<runs>/search/<study>.journal unless given), or postgresql://…"
    )

    def __post_init__(self) -> None:
        require(self.target_cost > 0, "target_cost", self.target_cost, "positive: what one inference may cost")
        rewards.reward(self.reward, self.target_cost, self.weight)
        require_choice("controller", self.controller, CONTROLLERS)
        require_choice("trainer", self.trainer, TRAINERS)
        for name in ("trials", "epochs", "shared_epochs"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("epoch_images", "validation_images", "finalists", "finalist_seeds", "compared"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        plain = self.study.replace("-", "").replace("_", "").isalnum()
        require(plain, "study", self.study, "letters, digits, - and _")
