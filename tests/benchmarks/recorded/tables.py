"""The columns of every table, for the terminal of a benchmark and for docs/results.md alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recorded.record import Row
from tfcompact.report.table_columns import Column

Columns = tuple[Column[Row], ...] | Callable[[Sequence[Row]], tuple[Column[Row], ...]]


def number(heading: str, key: str, form: str = ".1f", scale: float = 1) -> Column[Row]:
    """A column of numbers; one that was not measured, None, leaves its cell empty."""
    return Column(heading, lambda row: "" if row[key] is None else format(row[key] * scale, form))


def words(heading: str, key: str) -> Column[Row]:
    """A column of text."""
    return Column(heading, lambda row: str(row[key]), left=True)


def spread(heading: str, low: str, high: str, form: str = ".2f") -> Column[Row]:
    """A column of two numbers, from the lower to the higher."""
    return Column(heading, lambda row: f"{row[low]:{form}} to {row[high]:{form}}")


def markdown(columns: Columns, rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    shown = columns(rows) if callable(columns) else columns
    lines = [
        [column.heading for column in shown],
        [":--" if column.left else "--:" for column in shown],
        *([_cell(column.text(row)) for column in shown] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of(benchmark: str, table: str = "rows") -> Columns:
    """The columns of a table. Raises `KeyError` for one that there is not."""
    return TABLES[benchmark][table]


def devices(rows: Sequence[Row]) -> str:
    """What phones took for a board's files: a table for each unit, a column for each place and format."""
    parts = []
    for unit in dict.fromkeys(row["unit"] for row in rows):
        costs: dict[str, Row] = {}
        for row in rows:
            if row["unit"] == unit:
                costs.setdefault(row["model"], {})[f"{row['format']}, {row['place']}"] = row["cost"]
        places = list(dict.fromkeys(place for of_model in costs.values() for place in of_model))
        lines = [{"model": model} | {place: found.get(place) for place in places} for model, found in costs.items()]
        columns = (words("network", "model"), *(number(place, place, ".2f") for place in places))
        parts.append(f"{unit}:\n\n{markdown(columns, lines)}")
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _epochs(rows: Sequence[Row]) -> tuple[Column[Row], ...]:
    keys = [key for key in rows[0] if key.startswith("epoch_")]
    return (
        words("start", "start"),
        *(number(key.removeprefix("epoch_"), key) for key in keys),
        number("float32", "float32"),
        number("int8", "int8"),
        number("CPU minutes", "cpu_minutes"),
    )


def _instructions(rows: Sequence[Row]) -> tuple[Column[Row], ...]:
    """Counts as `<side>, <processor>` in millions, then for each processor the second side over the first."""
    keys = [key for key in rows[0] if ", " in key]
    sides = list(dict.fromkeys(key.partition(", ")[0] for key in keys))
    processors = list(dict.fromkeys(key.partition(", ")[2] for key in keys)) if len(sides) > 1 else []

    def ratio(processor: str) -> Column[Row]:
        first, second = (f"{side}, {processor}" for side in sides[:2])
        return Column(f"{sides[1]} / {sides[0]}, {processor}", lambda row: f"{row[second] / row[first]:.2f}")

    return (words("", "network"), *(number(key, key, ".2f", 1e-6) for key in keys), *map(ratio, processors))


def _partitions(row: Row) -> str:
    return f"{row['our_partitions']} against {row['their_partitions']}"


def _left(row: Row) -> str:
    return "the same line" if row["left"] is None else str(row["left"])


def _ties(heading: str, key: str) -> tuple[Column[Row], Column[Row]]:
    return number(f"{heading}: first", f"{key}_first"), number("ties alike", f"{key}_ties")


NETWORK, PX = words("network", "network"), number("px", "px", "d")
PARTITIONS = number("XNNPACK partitions", "partitions", "d")

TABLES: dict[str, dict[str, Columns]] = {
    "against_keras_applications": {
        "rows": (
            *(NETWORK, PX, number("ours, ms", "our_ms", ".2f"), number("theirs, ms", "their_ms", ".2f")),
            number("theirs / ours, median", "ratio", ".2f"),
            spread("p10 to p90", "ratio_p10", "ratio_p90"),
            Column("XNNPACK partitions", _partitions),
        )
    },
    "bad_inputs": {
        "rows": (
            *(words("input", "input"), words("the line it gets", "line")),
            Column("images left with --skip-unreadable", _left),
        )
    },
    "every_family": {
        "rows": (
            *(words("family", "family"), NETWORK, PX, number("MMACs distilled", "distill_macs", ".1f", 1e-6)),
            *(
                number("channels pruned", "channels_macs", ".1f", 1e-6),
                number("split", "decompose_macs", ".1f", 1e-6),
            ),
            *(number("zeros, k", "zeros", ",.0f", 1e-3), number("values of a kernel", "values", "d")),
            *(number("int8, kB", "bytes", ",.0f", 1e-3), number("zip, kB", "zipped_bytes", ",.0f", 1e-3)),
            words("refused", "refused"),
        )
    },
    "few_photographs": {
        "rows": (
            *(NETWORK, words("photographs a class", "photographs"), words("start", "start")),
            *(number("epochs", "epochs", "d"), number("top-1, mean of seeds", "mean")),
            *(spread("lowest to highest", "lowest", "highest", ".1f"), number("CPU minutes", "cpu_minutes")),
        ),
        "trainings": (
            *(NETWORK, words("photographs a class", "photographs"), words("start", "start")),
            *(number("seed", "seed", "d"), number("top-1", "accuracy"), number("CPU minutes", "cpu_minutes")),
        ),
    },
    "compression": {
        "rows": (
            *(number("", "number", "d"), words("row", "row"), words("class", "kind")),
            *(number("parameters, k", "parameters", ",.0f", 1e-3), number("MMACs", "macs", ".1f", 1e-6)),
            *(number("float, %", "float_accuracy"), number("file, %", "accuracy"), number("±", "half")),
            *(number("kB", "bytes", ",.0f", 1e-3), number("zip, kB", "zipped_bytes", ",.0f", 1e-3)),
            *(number("ms", "ms", ".3f"), number("A53, Minsn", "a53", ".1f", 1e-6)),
            *(number("A76, Minsn", "a76", ".1f", 1e-6), number("energy, µJ", "energy_uj", ".0f")),
            *(number("- plain of equal MACs", "gain_macs", "+.1f"), number("of equal zip", "gain_zipped", "+.1f")),
            words("front", "front"),
        ),
        "failed": (number("", "number", "d"), words("row", "row"), words("why", "error")),
    },
    "compression_cost": {
        "groups": (
            *(NETWORK, number("built, s", "build_s", ".2f"), number("groups found, s", "walk_s", ".2f")),
            *(number("halved, s", "halve_s", ".2f"), number("beyond building, s", "beyond_s", ".2f")),
        ),
        "decompose": (
            *(NETWORK, number("layers split", "layers", "d"), number("left", "left", ".2f")),
            *(number("moments, CPU s", "moments_s"), number("ranks and factors, CPU s", "cpu_s")),
            number("wall time, s", "seconds"),
        ),
        "memory": (
            *(NETWORK, number("widest filter", "widest", ",d"), number("images once, MB", "once_mb", ",.0f")),
            *(number("second moments, MB more", "moments_more_mb", "+,.0f"),),
            number("energy-aware, MB more", "energy_more_mb", "+,.0f"),
        ),
    },
    "distillation": {
        "rows": (
            *(
                NETWORK,
                words("term", "term"),
                number("epochs", "epochs", "d"),
                number("top-1, mean of seeds", "mean"),
            ),
            *(number("- none", "gain", "+.1f"), number("±", "half"), number("seeds", "seeds", "d")),
        ),
        "trainings": (
            *(NETWORK, words("term", "term"), number("seed", "seed", "d"), number("top-1", "accuracy")),
            number("CPU minutes", "cpu_minutes"),
        ),
        "teachers": (NETWORK, number("top-1", "accuracy")),
    },
    "finetune": {"rows": _epochs},
    "fit_overhead": {
        "rows": (
            *(words("ours / bare", "what"), number("median", "ratio", ".3f")),
            spread("p10 to p90", "ratio_p10", "ratio_p90", ".3f"),
            number("of the fastest epochs", "fastest", ".3f"),
        )
    },
    "flowers": {
        "rows": (
            *(NETWORK, PX, number("seed", "seed", "d"), number("float32", "float")),
            *(number("QAT int8", "qat"), number("PTQ int8", "ptq"), number("QAT - float", "qat_minus_float", "+.1f")),
            *(number("QAT agreement", "agreement"), number("CPU minutes", "cpu_minutes")),
        )
    },
    "imagenet_weights": {
        "files": (
            *(NETWORK, words("file", "file"), words("way", "way"), number("MB", "mb", ".2f")),
            *(number("top-1", "top1"), number("top-5", "top5")),
        ),
        "agreement": (
            *(NETWORK, words("way", "way"), *_ties("last tensor alone", "last"), *_ties("8-bit network", "network")),
            *(*_ties("file", "file"), *_ties("file, train", "train"), *_ties("file, held out", "held_out")),
            number("photographs with a tie", "tied", "d"),
        ),
    },
    "foreign_range": {
        "rows": (
            *(NETWORK, words("images", "data"), PX, number("MMACs", "distill_macs", ".1f", 1e-6)),
            *(number("left", "decompose_macs", ".1f", 1e-6), number("distilled, %", "distill_accuracy")),
            *(number("channels, %", "channels_accuracy"), number("split, %", "decompose_accuracy")),
            *(number("zeros, %", "zeros_accuracy"), number("int8, %", "quantize_accuracy")),
            *(number("clustered, %", "cluster_accuracy"), number("file, %", "file_accuracy")),
            *(number("kB", "bytes", ",.0f", 1e-3), number("zip, kB", "zipped_bytes", ",.0f", 1e-3)),
            words("refused", "refused"),
        )
    },
    "input_pipeline": {
        "rows": (
            *(words("pipeline", "pipeline"), number("images/s, median", "images_per_s", ".0f")),
            *(spread("lowest to highest", "lowest", "highest", ".0f"), number("CPU ms an image", "cpu_ms", ".2f")),
            number("ours is faster by", "ours_faster", ".2f"),
        )
    },
    "instructions": dict.fromkeys(("files", "unlowered", "exports", "applications"), _instructions),
    "kernels": {
        "rows": (
            *(words("operator", "operator"), number("how many", "how_many", "d")),
            *(number("largest difference, steps", "steps", "d"), words("where", "where")),
        )
    },
    "kill_and_resume": {
        "rows": (words("what", "what"), words("epochs done", "epochs_done"), words("weights", "weights"))
    },
    "bombs": {
        "rows": (
            *(
                words("file", "file"),
                words("kind", "kind"),
                number("file MB", "mb", ".2f"),
                words("answer", "answer"),
            ),
            *(number("seconds", "seconds", ".2f"), number("memory MB", "megabytes", ".0f")),
        )
    },
    "zoo_prediction": {
        "rows": (
            words("network", "network"),
            number("weights MB", "weights_mb", ".2f"),
            number("over and over ms", "again_ms", ".2f"),
            number("predicted", "again_predicted", ".2f"),
            number("error %", "again_error", "+.1f"),
            number("operators alone %", "again_plain_error", "+.1f"),
            number("in turns ms", "between_ms", ".2f"),
            number("predicted", "between_predicted", ".2f"),
            number("error %", "between_error", "+.1f"),
            number("operators alone %", "between_plain_error", "+.1f"),
        )
    },
    "latency_prediction": {
        "rows": (
            *(words("device", "device"), words("unit", "unit"), number("operators in table", "operators", "d")),
            *(number("networks", "networks", "d"), spread("range", "lowest", "highest", ".4g")),
            *(number("median error, %", "error", ".2f"), number("p90, %", "error_p90", ".2f")),
            *(number("largest, %", "error_largest", ".2f"), number("Spearman", "spearman", ".4f")),
        )
    },
    "search_workers": {
        "rows": (
            *(
                words("workers", "workers"),
                number("candidates", "candidates", "d"),
                number("minutes", "minutes", ".1f"),
            ),
            *(number("candidates a minute", "a_minute", ".2f"), number("times one on one core", "speed", ".2f")),
            *(number("trained twice", "twice", "d"), number("left unfinished", "unfinished", "d")),
        )
    },
    "width_prediction": {
        "rows": (
            *(words("of", "of"), number("made of networks", "table_networks", "d")),
            *(number("operators in table", "operators", "d"), number("predicted", "networks", "d")),
            *(number("interpolated, %", "share", ".0f"), number("median error, %", "error", ".2f")),
            *(number("largest, %", "error_largest", ".2f"), number("median of signed errors, %", "bias", "+.2f")),
            number("Spearman", "spearman", ".4f"),
        ),
        "networks": (
            *(
                words("of", "of"),
                NETWORK,
                number("predicted", "predicted", ",.0f"),
                number("counted", "cost", ",.0f"),
            ),
            *(number("error, %", "error", "+.2f"), number("interpolated, %", "share", ".0f")),
        ),
    },
    "layers": {
        "layers": (
            *(words("layer", "layer"), words("kind", "kind"), words("output", "output"), number("SQNR", "sqnr_db")),
            *(number("of its kernel", "kernel_db"), number("of its output", "output_db")),
            number("same class, %", "agreement"),
        ),
        "files": (
            *(words("file", "file"), number("MB", "mb", ".2f"), number("accuracy, %", "accuracy")),
            *(number("agreement, %", "agreement"), number("SQNR, dB", "sqnr_db"), PARTITIONS),
            number("latency, ratio", "ratio", ".2f"),
        ),
    },
    "leaderboard": {
        "rows": (
            *(words("network", "model"), PX, number("MMACs", "macs", ".0f", 1e-6)),
            number("images seen", "images_seen", ","),
            *(number("float32", "float_accuracy", ".2f"), number("PTQ int8", "ptq_accuracy", ".2f")),
            *(number("QAT int8", "qat_accuracy", ".2f"), number("QAT - float", "qat_minus_float", "+.2f")),
            *(number("agreement", "agreement"), number("float32, MB", "float_bytes", ".2f", 1e-6)),
            *(number("int8, MB", "int8_bytes", ".2f", 1e-6), number("float32, ms", "float32_ms_1t", ".2f")),
            *(number("int8, ms", "int8_ms_1t", ".2f"), number("int8 on 2 threads, ms", "int8_ms_2t", ".2f")),
            number("XNNPACK partitions", "xnnpack_partitions", "d"),
            Column("CPU minutes", lambda r: f"{r['fit_cpu_minutes'] + r['qat_cpu_minutes']:.1f}"),
        ),
    },
    "main_job": {
        "rows": (
            *(NETWORK, PX, number("wall time, min", "minutes"), number("processor time, min", "cpu_minutes")),
            number("goal, min", "goal_minutes", "d"),
        )
    },
    "merged_branches": {
        "rows": (
            *(NETWORK, PX, number("groups", "groups", "d"), number("difference", "difference", ".1e")),
            *(number("apart, ms", "apart_ms", ".2f"), number("merged, ms", "merged_ms", ".2f")),
            *(number("apart / merged, median", "ratio", ".3f"), spread("p10 to p90", "ratio_p10", "ratio_p90")),
        )
    },
    "pruning": {
        "rows": (
            *(NETWORK, words("channels by", "row"), number("MMACs", "macs", ".1f", 1e-6)),
            *(number("float, %", "float_accuracy"), number("int8, %", "accuracy"), number("±", "half")),
            *(number("- width of equal MACs", "gain_macs", "+.1f"), number("ms", "ms", ".3f")),
            *(number("of claim: ms", "ms_of_claim", ".2f"), number("A53", "a53_of_claim", ".2f")),
            number("A76", "a76_of_claim", ".2f"),
        ),
        "failed": (NETWORK, words("row", "row"), words("why", "error")),
    },
    "post_training": {
        "rows": (
            *(words("way", "way"), words("file", "file"), number("top-1", "top1")),
            *(number("- float32", "minus_float", "+.1f"), number("±", "error"), number("agreement", "agreement")),
            *(number("mean difference", "mean_difference", ".4f"), number("MB", "mb", ".2f"), PARTITIONS),
        )
    },
    "references": {
        "logits": (*(NETWORK, words("against", "against"), PX, number("largest difference", "difference", ".1e")),)
    },
    "netadapt": {
        "rows": (
            *(NETWORK, words("unit", "unit"), number("share, %", "share", ".0f"), number("cost", "cost", ".4g")),
            *(number("adapted, %", "accuracy"), number("width of equal cost, %", "multiplier")),
            *(
                number("- width", "gain", "+.1f"),
                number("±", "half"),
                number("prediction's error, %", "error", "+.1f"),
            ),
            *(number("interpolated, %", "interpolated", ".0f"), number("seeds", "seeds", "d")),
        ),
        "times": (
            *(NETWORK, number("first trace, s", "first"), number("masked, s", "masked", ".2f")),
            *(number("built, s", "alone", ".2f"), number("times", "ratio"), spread("range", "low", "high", ".1f")),
        ),
    },
    "search_table": {
        "rows": (
            *(number("networks", "networks", "d"), number("lowest, %", "lowest"), number("median, %", "median")),
            *(number("highest, %", "highest"), number("deviation", "deviation", ".2f")),
            *(number("of one network, by seed", "noise", ".2f"), number("repeated", "repeated", "d")),
            *(number("cheapest, Minsn", "cheapest", ".2f"), number("dearest, Minsn", "dearest", ".2f")),
        )
    },
    "search_replay": {
        "rows": (
            *(words("controller", "controller"), number("networks", "networks", "d")),
            *(number("regret, median", "regret", ".2f"), spread("quartiles", "low", "high")),
            *(number("better than random", "won", "d"), number("worse", "lost", "d"), number("p", "p", ".1g")),
            number("hypervolume, %", "volume", ".1f"),
        )
    },
    "training_speed": {
        "rows": (
            *(
                NETWORK,
                PX,
                number("ours, ms a step", "our_ms", ".1f"),
                number("PyTorch, ms a step", "their_ms", ".1f"),
            ),
            *(number("PyTorch / ours, median", "ratio", ".2f"), spread("p10 to p90", "ratio_p10", "ratio_p90")),
        )
    },
    "start": {
        "rows": (words("command", "typed"), spread("seconds", "lowest", "highest"), number("times", "times", "d"))
    },
}
