"""The table of commands: a line each, and one for each stage by itself."""

from __future__ import annotations

from typing import NamedTuple

from tfcompact import stages


class Command(NamedTuple):
    """One word of the command line. `module` has `run(name, words, help)`; it is imported when the word is typed."""

    name: str
    help: str
    module: str
    interrupted: str = "what was finished is kept, and the same command goes on from there"


_MEASURE_INTERRUPTED = (
    "rows that were saved are kept, those of phones that lack rounds as *.partial.json; the same command measures "
    "everything anew"
)


def commands() -> dict[str, Command]:
    """Every command by its name, in the order in which the help lists them."""
    rows = (
        Command("train", "Train, quantize, export, measure and report: from images to a verified int8 file", "train"),
        *(Command(entry.name, entry.help, "stage") for entry in stages.STAGES),
        Command(
            "export",
            "Write verified .tflite files (uint8, int8, float32, float16, dynamic) with metadata",
            "export",
        ),
        Command(
            "measure",
            "Latency and memory of the exported files: on this machine, with test accuracy, or on Android devices",
            "measure",
            _MEASURE_INTERRUPTED,
        ),
        Command(
            "report",
            "Tables (terminal, Markdown, CSV) and the accuracy-latency-size plot of all measurements",
            "report",
        ),
        Command(
            "compress",
            "Compare every way of making a network smaller on your images, in one table: a plan of trainings",
            "compress",
        ),
        Command(
            "choose",
            "Find the network that is best on your images within a latency budget, and make its int8 file",
            "choose",
        ),
        Command(
            "search",
            "Find an architecture of a search space that fits a budget, by training many for a short time",
            "search",
            "what was evaluated is kept, and the same command goes on from there",
        ),
        Command(
            "models",
            "All architectures with parameters, multiply-adds, published accuracy, and where weights are",
            "models",
        ),
        Command(
            "describe",
            "An architecture block by block: shapes, operators, parameters, multiply-adds, memory, traffic, energy",
            "describe",
        ),
        Command(
            "sensitivity",
            "What each layer's rounding alone costs a quantized run, and a file with the worst layers left float",
            "sensitivity",
        ),
        Command(
            "latency-table",
            "Costs of every operator of networks or of a search space on a device, to predict whole networks from",
            "latency_table",
        ),
        Command("runs", "All runs: what made them, when, from which parent", "runs"),
    )
    return {row.name: row for row in rows}
