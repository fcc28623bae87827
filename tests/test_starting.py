"""Where `train` starts from when nobody says so."""

import dataclasses
from types import SimpleNamespace

import pytest
from rich.console import Console

from tfcompact import models
from tfcompact.errors import UserError
from tfcompact.pipeline import starting
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.target import Target
from tfcompact.runs import store
from tfcompact.stages import fit

SPEC = models.spec("mobilenet_v2")
MISSING = UserError("the weights come with the package p, which is not installed; try: make weights")


def there(spec, name):
    return SimpleNamespace(label="package 1.0")


def not_there(spec, name):
    raise MISSING


@pytest.mark.parametrize(
    ("source", "weights", "find", "recipe", "start", "line"),
    [
        ("photos", None, there, "finetune", "imagenet",
         "trains from imagenet's weights, recipe finetune: package 1.0 has them; --weights none is from scratch"),
        ("photos", None, not_there, "default", None,
         "trains from scratch: the weights come with the package p, which is not installed; try: make weights"),
        ("digits", None, there, "default", None,
         "trains from scratch: digits is no folder of photographs; --weights imagenet does not"),
        ("./digits", None, there, "finetune", "imagenet", None),
        ("tfds:flowers", None, there, "finetune", "imagenet", None),
        ("photos", "none", there, "default", None, None),
        ("photos", "my.pth", not_there, "finetune", "my.pth", None),
        ("cifar10", "imagenet", there, "finetune", "imagenet", None),
    ],
)  # fmt: skip
def test_photographs_start_from_imagenet_where_that_can_be_had(source, weights, find, recipe, start, line) -> None:
    found = starting.decided(SPEC, source, weights, find)
    assert (found.recipe, found.weights) == (recipe, start)
    assert line in (None, found.line)
    assert "\n" not in found.line


def test_a_run_that_started_otherwise_is_told(tmp_path) -> None:
    before, after = starting.decided(SPEC, "photos", None, not_there), starting.decided(SPEC, "photos", None, there)
    inputs = {"parent": None, "stage": "fit", "data": "d1"}
    with store.recording(tmp_path, SPEC.name, "fit", inputs, {"start": before.facts}):
        pass
    runs = store.finished(tmp_path, SPEC.name)
    assert starting.otherwise(runs, before, "d1") is None
    assert starting.otherwise(runs, after, "d2") is None
    told = starting.otherwise(runs, after, "d1")
    assert told == f"{runs[0].name}, which the same command made before, started otherwise: {before.line}"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A pipeline whose stages only note what they were asked for."""
    seen = []

    def run(self, config, parent=None, start=None):
        seen.append((config, start))
        return store.Run(tmp_path / "m" / f"run-{len(seen)}")

    monkeypatch.setattr(Pipeline, "run", run)
    monkeypatch.setattr(Pipeline, "export", lambda self, config, parent: store.Run(tmp_path))
    monkeypatch.setattr(Pipeline, "measure", lambda self, config, parent: None)
    monkeypatch.setattr(Pipeline, "images", lambda self: SimpleNamespace(digest="d1"))

    def train(find, *words, **options):
        monkeypatch.setattr(Pipeline, "_pretrained", staticmethod(find))
        console = Console(record=True, width=500)
        Pipeline(Target("mobilenet_v2", data="photos", runs=tmp_path / "runs"), console).train(*words, **options)
        return seen, console.export_text()

    return train


def test_train_says_what_it_starts_from_and_records_it(asked) -> None:
    seen, log = asked(there)
    assert "trains from imagenet's weights, recipe finetune: package 1.0 has them" in log
    first, start = seen[0]
    assert (first.weights, first.learning_rate) == ("imagenet", 5e-4)
    assert start.facts == dataclasses.asdict(start)
    assert [start for _, start in seen[1:]] == [None]


def test_options_of_the_first_step_stay(asked) -> None:
    seen, _ = asked(there, first={"epochs": 3, "weights": "none"})
    assert seen[0][0] == fit.Config(epochs=3)
    seen, log = asked(there, overrides={"fit": {"weights": "y.pth", "epochs": 2}}, first={"epochs": 4})
    assert (seen[-2][0].weights, seen[-2][0].epochs, seen[-2][1].weights) == ("y.pth", 4, "y.pth")
    assert "trains from y.pth's weights, recipe finetune: as asked" in log
    seen, _ = asked(not_there, "finetune", first={"weights": "x.pth"}, overrides={"fit": {"epochs": 9}})
    assert (seen[-2][0].weights, seen[-2][0].epochs, seen[-2][1]) == ("x.pth", 9, None)
    seen, _ = asked(not_there, "finetune", first={"weights": "none"})
    assert seen[-2][0].weights is None


def test_where_there_are_no_images_no_weights_are_looked_for(tmp_path, monkeypatch) -> None:
    def never(spec, name):
        raise AssertionError("weights were looked for")

    monkeypatch.setattr(Pipeline, "_pretrained", staticmethod(never))
    console = Console(record=True, width=500)
    target = Target("mobilenet_v2", data=str(tmp_path / "nowhere"), runs=tmp_path / "runs")
    with pytest.raises(UserError, match="nowhere"):
        Pipeline(target, console).train()
    assert console.export_text() == ""
