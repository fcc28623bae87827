"""What each term of `distill` gains over training as long without a teacher.

    make weights
    python tests/benchmarks/distillation.py path/to/flowers [--students squeezenet_1.1] [--runs runs/distillation]

The teacher starts from ImageNet's weights (the recipe `finetune`), and so does SqueezeNet; MobileNetV2 0.35, of which
there are none here, starts from random ones. A seed gives the students of all terms the same first weights and the
same order of images, so differences are taken seed by seed.
The same 60 photographs of each class, which no training sees, judge: top-1 accuracy in percent of the exported
float32 file. Teacher and students train on the same photographs. Runs are kept, so an interrupted call goes on.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from few_photographs import folder
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording
from rich.console import Console

from tfcompact.comparison.intervals import mean_interval
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured, load_recipe
from tfcompact.pipeline.target import Target
from tfcompact.tflite import runtime

STUDENTS: dict[str, dict[str, Any]] = {  # and how they train, with a teacher and without
    "squeezenet_1.1": {"weights": "imagenet", "epochs": 6, "learning_rate": 5e-4},
    "mobilenet_v2_0.35": {"epochs": 12},
}
TEACHER = "efficientnet_lite0"
NONE = "none"
TERMS: dict[str, dict[str, float]] = {
    NONE: {},
    "kd": {"ce": 0.1, "kd": 0.9},
    "dkd": {"ce": 1, "kd": 0, "dkd": 1},
    "hint": {"ce": 1, "kd": 0, "hint": 0.1},
    "attention": {"ce": 1, "kd": 0, "attention": 300},
}


def accuracy(pipeline: Pipeline, run: Any, px: int, book: Book) -> tuple[float, int]:
    """Top-1 in percent of the exported file on the photographs that judge, and how many they are."""
    exported = pipeline.export(configured("export", {"formats": ["float32"]}), run.name)
    book.rests_on(run, exported)
    images, labels = pipeline.images(run).arrays("test", px=px)
    model = runtime.LiteModel(exported.path / exported.artifacts[0].path, threads=2)
    return 100 * float((model(images).argmax(1) == labels).mean()), len(labels)


def measure(student: str, seed: int, options: Any, book: Book) -> None:
    """Trains and judges one student with each term; the teacher is made once."""
    place, _ = folder(Path(options.data), options.runs / "photographs", None, 0)
    runs = options.runs / "runs"
    teaching = Pipeline(Target(TEACHER, data=str(place), px=options.px, seed=0, runs=runs), Console(stderr=True))
    # Smoothed labels take away what a student could learn of how classes resemble each other (arXiv:1906.02629).
    recipe = dict(load_recipe("finetune")[0].options)
    teacher = teaching.run(configured("fit", recipe | {"label_smoothing": 0.0}))
    if not book.tables:
        top1, images = accuracy(teaching, teacher, options.px, book)
        book.add("teachers", network=TEACHER, student=student, accuracy=top1, test_images=images)
    pipeline = Pipeline(Target(student, data=str(place), px=options.px, seed=seed, runs=runs), Console(stderr=True))
    for term, weights in TERMS.items():
        plan = dict(STUDENTS[student])
        stage = "fit" if term == NONE else "distill"
        if term != NONE:
            plan |= weights | {"teacher": f"{TEACHER}/{teacher.name}"}
        run = pipeline.run(configured(stage, plan))
        top1, images = accuracy(pipeline, run, options.px, book)
        minutes = run.provenance["cpu_seconds"] / 60
        row = {"network": student, "term": term, "seed": seed, "accuracy": top1, "cpu_minutes": minutes}
        book.add("trainings", **row, test_images=images)


def summarize(student: str, book: Book) -> None:
    """A row for each term: the mean over the seeds, and the difference from none with its interval."""
    of = {(row["term"], row["seed"]): row["accuracy"] for row in book.tables["trainings"]}
    seeds = sorted({seed for _, seed in of})
    for term in TERMS:
        gains = [of[term, seed] - of[NONE, seed] for seed in seeds]
        middle, half = mean_interval(gains)
        book.add(
            network=student,
            term=term,
            epochs=STUDENTS[student]["epochs"],
            mean=statistics.mean(of[term, seed] for seed in seeds),
            gain=None if term == NONE else middle,
            half=None if term == NONE else half,
            seeds=len(seeds),
            test_images=book.tables["trainings"][0]["test_images"],
        )


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--px", type=int, default=96)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--runs", type=Path, default=Path("runs/distillation"))
    arguments.add_selection("--students", choices=tuple(STUDENTS), default=tuple(STUDENTS))
    options = arguments.parse_args()
    for student in options.students:
        with recording(arguments.call(options), student, flag="--students") as book:
            for seed in range(options.seeds):
                measure(student, seed, options, book)
            summarize(student, book)
        print(f"\n{tables.markdown(tables.of('distillation'), book.tables['rows'])}")


if __name__ == "__main__":
    main()
