"""Which packages of tfcompact each benchmark measures: its record is old once one of them has changed."""

from __future__ import annotations

PACKAGES = (
    *("records", "runs", "data", "models", "networks", "tflite", "training", "compress", "weights", "measure"),
    *("latency", "export", "report", "stages", "sensitivity", "pipeline", "comparison", "cli"),
    *("supernet", "search", "choice"),
)
"""Every name that may stand below."""

CONVERTED = ("models", "networks", "compress", "export")
TRAINED = ("data", *CONVERTED, "training", "stages")

MEASURES: dict[str, tuple[str, ...]] = {  # a script beside this package, without .py -> what it measures
    "against_keras_applications": CONVERTED,
    "bad_inputs": ("data",),
    "every_family": TRAINED,
    "few_photographs": (*TRAINED, "weights"),
    "compression": (*TRAINED, "weights", "comparison"),
    "compression_cost": ("models", "networks", "compress"),
    "distillation": (*TRAINED, "weights"),
    "finetune": (*TRAINED, "weights"),
    "bombs": ("data", "weights", "tflite"),
    "fit_overhead": ("data", "training"),
    "flowers": TRAINED,
    "imagenet_weights": ("data", *CONVERTED, "weights"),
    "foreign_range": TRAINED,
    "input_pipeline": ("data",),
    "instructions": (*CONVERTED, "measure"),
    "kernels": CONVERTED,
    "kill_and_resume": ("data", "models", "training", "stages", "runs"),
    "zoo_prediction": (*CONVERTED, "latency", "tflite", "measure"),
    "latency_prediction": (*CONVERTED, "latency", "tflite", "measure"),
    "width_prediction": (*CONVERTED, "latency", "tflite", "measure"),
    "layers": (*TRAINED, "sensitivity"),
    "leaderboard": TRAINED,
    "main_job": (*TRAINED, "pipeline", "measure", "report"),
    "merged_branches": CONVERTED,
    "post_training": TRAINED,
    "pruning": (*TRAINED, "comparison"),
    "references": ("models", "weights"),
    "netadapt": (*TRAINED, "latency"),
    "search_table": ("data", "models", "supernet", "training"),
    "search_replay": ("search",),
    "search_workers": ("search", "models", "training"),
    "training_speed": ("models", "training"),
    "start": ("cli",),
}
NOT_RECORDED: dict[str, str] = {
    "netadapt": "takes hours; its record comes with its curves",
    "search_table": "takes hours; its record comes when every network is trained",
    "search_workers": "its record comes with the first search on a quiet machine",
    "search_replay": "its record comes with that of search_table",
}
"""Scripts that have no record, and why."""


def of_part(benchmark: str, part: str) -> tuple[str, ...]:
    """What a part of a record measures: latencies and devices of a board do not depend on how it was trained."""
    if benchmark == "leaderboard" and part.endswith((" latency", " devices")):
        return (*CONVERTED, "measure")
    return MEASURES[benchmark]
