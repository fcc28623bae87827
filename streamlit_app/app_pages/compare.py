"""Compare: every measurement as a point and as a row, one plot for each setting in which numbers compare."""

import altair as alt
import pandas as pd
import parts
import streamlit as st

from tfcompact.records.formats import LISTED
from tfcompact.report import measured_rows, plot_style
from tfcompact.report.measured_rows import Row, Setting

HEIGHT = 420
SHAPES = {format: vega for format, (_, vega, _) in plot_style.SHAPES.items()}
GREY = "#8b94a3"  # seen on a light ground and on a dark one


def filtered(rows: tuple[Row, ...]) -> list[Row]:
    """The rows that pass the three filters; an empty filter lets everything pass."""
    models = sorted({row.model for row in rows})
    formats = [f for f in LISTED if any(row.format == f for row in rows)]
    threads = sorted({row.setting.threads for row in rows})
    columns = st.columns([5, 4, 3], gap="medium")
    with columns[0]:
        model = st.multiselect("Models", models, placeholder="All models", key="models_shown")
    with columns[1]:
        format = st.pills("Formats", formats, selection_mode="multi", key="formats_shown")
    with columns[2]:
        thread = st.pills(
            "Threads", threads, selection_mode="multi", default=threads[:1], key="threads_shown", format_func=str
        )
    return [
        row
        for row in rows
        if row.model in (model or models)
        and row.format in (format or formats)
        and row.setting.threads in (thread or threads)
    ]


def frame(rows: list[Row]) -> pd.DataFrame:
    """One line per row, numbers as numbers, shares in percent."""
    front = {
        id(row) for group in measured_rows.by_setting(rows).values() for row in measured_rows.pareto_front(group)
    }
    return pd.DataFrame(
        {
            "Model": [row.model for row in rows],
            "Format": [row.format for row in rows],
            "Front": ["●" if id(row) in front else "" for row in rows],
            "Top-1": [None if row.top1 is None else 100 * row.top1 for row in rows],
            "Top-5": [None if row.top5 is None else 100 * row.top5 for row in rows],
            "Size": [row.size_mb for row in rows],
            "p50": [row.p50_ms for row in rows],
            "p90": [row.p90_ms for row in rows],
            "p99": [row.p99_ms for row in rows],
            "Cold start": [row.cold_ms for row in rows],
            "Instructions": [row.instructions and row.instructions / 1e6 for row in rows],
            "Threads": [row.setting.threads for row in rows],
            "Partitions": [row.partitions for row in rows],
            "Peak memory": [row.peak_memory_mb for row in rows],
            "Parameters": [row.parameters and row.parameters / 1e6 for row in rows],
            "MACs": [row.macs and row.macs / 1e6 for row in rows],
            "Delegate": [row.setting.delegate for row in rows],
            "Run by": [row.setting.backend for row in rows],
            "Device": [row.setting.processor or row.setting.device for row in rows],
            "Data": [row.setting.data_name or row.setting.data for row in rows],
            "Made by": [row.made_by for row in rows],
            "Run": [row.run for row in rows],
            "Beware": [", ".join(row.flags).replace("_", " ") for row in rows],
        }
    )


def table(rows: list[Row]) -> None:
    """The rows, sortable by a click on a heading."""
    number = st.column_config.NumberColumn
    columns = {
        "Front": st.column_config.TextColumn(help="On the Pareto front: none here is both faster and more accurate."),
        "Top-1": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100),
        "Top-5": number(format="%.1f %%"),
        "Size": number(format="%.2f MB"),
        "p50": number(format="%.2f ms", help="Median latency of one image."),
        "p90": number(format="%.2f ms"),
        "p99": number(format="%.2f ms"),
        "Cold start": number(format="%.0f ms", help="From the file to the first answer."),
        "Instructions": number(format="%.2f M", help="ARM64 instructions of one inference, counted in an emulator."),
        "Partitions": number(help="Pieces in which the XNNPACK delegate runs the network; 1 is best."),
        "Peak memory": number(format="%.0f MB", help="Of the measuring process."),
        "Parameters": number(format="%.2f M"),
        "MACs": number(format="%.0f M", help="Multiply-accumulates for one image."),
    }
    data = frame(rows)
    empty = [name for name in ("Cold start", "Instructions") if data[name].isna().all()]
    empty += [] if any(data["Beware"]) else ["Beware"]
    data = data.drop(columns=empty)
    st.dataframe(data, hide_index=True, column_config=columns, height="content", key="table")


def plot(setting: Setting, rows: list[Row], colours: dict[str, str]) -> alt.LayerChart:
    """Accuracy against latency, or instructions; hover for the numbers, drag and scroll to look closer."""
    rows = sorted(rows, key=lambda row: -row.size_mb)  # the small ones are drawn last, on top
    front = measured_rows.pareto_front(rows)
    points = pd.DataFrame(
        {
            "Model": [row.model for row in rows],
            "Format": [row.format for row in rows],
            "Cost": [row.point[0] for row in rows],
            "Top-1 (%)": [row.point[1] for row in rows],
            "Size (MB)": [row.size_mb for row in rows],
            "On the front": [row in front for row in rows],
        }
    )
    if plot_style.wide(rows):
        ticks = [step * 10.0**power for power in range(-3, 5) for step in (1, 2, 5)]
        scale, axis, suffix = alt.Scale(type="log", nice=False, padding=40), alt.Axis(values=ticks), ", logarithmic"
    else:
        scale, axis, suffix = alt.Scale(zero=False, padding=40), alt.Axis(tickCount=6), ""
    axis.grid, axis.format = False, "~g"
    cost = alt.X("Cost:Q", title=f"{setting.cost.text}{suffix}", scale=scale, axis=axis)
    accuracy = alt.Y(
        "Top-1 (%):Q",
        title="Top-1 accuracy in %",
        scale=alt.Scale(zero=False, padding=30),
        axis=alt.Axis(tickCount=6),
    )
    base = alt.Chart(points).encode(x=cost, y=accuracy)
    line = (
        base.transform_filter("datum['On the front']")
        .mark_line(interpolate="step-after", strokeDash=[5, 4], strokeWidth=1.4, color=GREY)
        .encode(order="Cost:Q")
    )
    dots = base.mark_point(filled=True, stroke="white", strokeWidth=1).encode(
        color=alt.Color("Model:N", legend=None, scale=alt.Scale(domain=list(colours), range=list(colours.values()))),
        shape=alt.Shape("Format:N", legend=None, scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values()))),
        size=alt.Size(
            "Size (MB):Q",
            scale=alt.Scale(type="linear", domainMin=0, rangeMin=60, rangeMax=1400 if len(rows) > 1 else 300),
            legend=None,
        ),
        opacity=alt.condition("datum['On the front']", alt.value(0.95), alt.value(0.5)),
        tooltip=[
            "Model",
            "Format",
            alt.Tooltip("Top-1 (%):Q", format=".1f"),
            alt.Tooltip("Cost:Q", format=".2f", title=setting.cost.text),
            alt.Tooltip("Size (MB):Q", format=".2f"),
        ],
    )
    return alt.layer(line, dots).properties(height=HEIGHT).interactive()


def panels(rows: list[Row], colours: dict[str, str]) -> None:
    """One plot for each setting, two beside each other."""
    groups = measured_rows.by_setting(rows)
    columns = st.columns(min(2, len(groups)), gap="medium")
    for i, (setting, group) in enumerate(groups.items()):
        with columns[i % 2], st.container(border=True):
            parts.title(setting.place, setting.images_text)
            drawn = measured_rows.drawable(group)
            if drawn:
                st.altair_chart(plot(setting, drawn, colours), width="stretch", key=f"plot_{i}")
            else:
                parts.empty(
                    "Nothing to draw",
                    "No row here has both an accuracy and a latency (or, where emulated, instructions).",
                )
            if 0 < len(drawn) < len(group):
                st.caption(f"{len(group) - len(drawn)} of {len(group)} rows lack an accuracy or a cost.")
            if setting.caution:
                st.caption(setting.caution)
            if flags := measured_rows.shared_flags(group):
                st.caption(parts.plain("Beware, all rows: " + ", ".join(flags).replace("_", " ") + "."))


parts.heading("Compare", "What each exported file costs and how often it is right, measured on the file itself.")
root = parts.root()
found = measured_rows.measured(root)
parts.damaged(found.damaged)
if not found.rows:
    parts.empty(
        "No measurements yet", f"There are none under {root}. This makes some:", "make train MODEL=mobilenet_v2"
    )
    st.stop()

rows = filtered(found.rows)
if not rows:
    parts.empty("No rows left", "Nothing passes these filters together; take one back.")
    st.stop()
colours = plot_style.colours(row.model for row in found.rows)
shown = {row.model for row in rows}, {row.format for row in rows}
parts.legend(
    {model: colour for model, colour in colours.items() if model in shown[0]},
    {format: plot_style.SHAPES[format][2] for format in LISTED if format in shown[1]},
)
panels(rows, colours)
st.caption(
    "Up and to the left is better. The area of a point is the size of its file. The dashed line is the Pareto front: "
    "no file is both faster and more accurate than one on it."
)
table(rows)
st.caption("Click a heading to sort by it; rest on it to read what it means.")
