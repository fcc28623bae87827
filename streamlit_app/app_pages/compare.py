"""Compare: every measurement as a point and as a row, one plot for each setting in which numbers compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import pandas as pd
import screen
import streamlit as st

from tfcompact.records.formats import LISTED
from tfcompact.report import measured_rows, measurement_columns, plot_style
from tfcompact.report.measured_rows import Row
from tfcompact.report.measurement_columns import MeasurementColumn, Number
from tfcompact.report.nothing_yet import FIRST
from tfcompact.report.setting import Setting

if TYPE_CHECKING:
    from streamlit.elements.lib.column_types import ColumnConfig

HEIGHT = 420
SHAPES = {format: shape.vega for format, shape in plot_style.SHAPES.items()}
GREY = "#8b94a3"  # seen on a light ground and on a dark one
FRONT = "Front"  # the table's column for what others print bold
COST, ACCURACY, SIZE, ON_FRONT = "Cost", "Top-1 (%)", "Size (MB)", "On the front"  # of a point
ACCURACY_AXIS = alt.Y(
    f"{ACCURACY}:Q",
    title="Top-1 accuracy in %",
    scale=alt.Scale(zero=False, padding=30),
    axis=alt.Axis(tickCount=6),
)


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


def table(rows: list[Row]) -> None:
    """Shows the rows, sortable by a click on a heading."""
    columns = measurement_columns.useful_columns(rows)
    configs = {column.full_heading: config(column) for column in columns}
    configs[FRONT] = st.column_config.TextColumn(help="No file in its setting is both cheaper and more accurate.")
    cells = {column.full_heading: [column.shown(row) for row in rows] for column in columns}
    data = pd.DataFrame({FRONT: front_marks(rows)} | cells)
    st.dataframe(data, hide_index=True, column_config=configs, height="content", key="table")


def config(column: MeasurementColumn) -> ColumnConfig:
    """How the table shows a column: a share as a bar, another number as it is written elsewhere."""
    if not isinstance(column, Number):
        return st.column_config.TextColumn(help=column.meaning)
    form = f"%{column.form}"
    if column.unit == "%":
        return st.column_config.ProgressColumn(format=f"{form} %%", min_value=0, max_value=100, help=column.meaning)
    return st.column_config.NumberColumn(format=form, help=column.meaning)


def front_marks(rows: list[Row]) -> list[str]:
    """A dot for each row that is on the front of its setting."""
    groups = measured_rows.by_setting(rows).values()
    front = {row for group in groups for row in measured_rows.pareto_front(group)}
    return ["●" if row in front else "" for row in rows]


def plot(setting: Setting, rows: list[Row], colours: dict[str, str]) -> alt.LayerChart | alt.FacetChart:
    """The accuracy against the cost; hover for the numbers, drag and scroll to look closer."""
    rows = sorted(rows, key=lambda row: -row.size_mb)  # the small ones are drawn last, on top
    base = alt.Chart(points(rows)).encode(x=cost_axis(setting, rows), y=ACCURACY_AXIS)
    line = (
        base.transform_filter(f"datum['{ON_FRONT}']")
        .mark_line(interpolate="step-after", strokeDash=[5, 4], strokeWidth=1.4, color=GREY)
        .encode(order=f"{COST}:Q")
    )
    largest = 1400 if len(rows) > 1 else 300
    size = alt.Scale(type="linear", domainMin=0, rangeMin=60, rangeMax=largest)
    dots = base.mark_point(filled=True, stroke="white", strokeWidth=1).encode(
        color=alt.Color("Model:N", legend=None, scale=alt.Scale(domain=list(colours), range=list(colours.values()))),
        shape=alt.Shape("Format:N", legend=None, scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values()))),
        size=alt.Size(f"{SIZE}:Q", scale=size, legend=None),
        opacity=alt.condition(f"datum['{ON_FRONT}']", alt.value(0.95), alt.value(0.5)),
        tooltip=[
            "Model",
            "Format",
            alt.Tooltip(f"{ACCURACY}:Q", format=".1f"),
            alt.Tooltip(f"{COST}:Q", format=".2f", title=setting.cost.text),
            alt.Tooltip(f"{SIZE}:Q", format=".2f"),
        ],
    )
    return alt.layer(line, dots).properties(height=HEIGHT).interactive()


def points(rows: list[Row]) -> pd.DataFrame:
    """One line per drawable row, with what the plot tells of it."""
    front = measured_rows.pareto_front(rows)
    return pd.DataFrame(
        {
            "Model": [row.model for row in rows],
            "Format": [row.format for row in rows],
            COST: [row.point[0] for row in rows],
            ACCURACY: [row.point[1] for row in rows],
            SIZE: [row.size_mb for row in rows],
            ON_FRONT: [row in front for row in rows],
        }
    )


def cost_axis(setting: Setting, rows: list[Row]) -> alt.X:
    """The axis of the costs, logarithmic where they spread far."""
    if plot_style.wide(rows):
        ticks = [step * 10.0**power for power in range(-3, 5) for step in (1, 2, 5)]
        scale, axis, suffix = alt.Scale(type="log", nice=False, padding=40), alt.Axis(values=ticks), ", logarithmic"
    else:
        scale, axis, suffix = alt.Scale(zero=False, padding=40), alt.Axis(tickCount=6), ""
    axis.grid, axis.format = False, "~g"
    return alt.X(f"{COST}:Q", title=f"{setting.cost.text}{suffix}", scale=scale, axis=axis)


def panels(rows: list[Row], colours: dict[str, str]) -> None:
    """Shows a panel for each setting, two beside each other."""
    groups = measured_rows.by_setting(rows)
    columns = st.columns(min(2, len(groups)), gap="medium")
    for i, (setting, group) in enumerate(groups.items()):
        with columns[i % 2], st.container(border=True):
            panel(setting, group, colours, key=f"plot_{i}")


def panel(setting: Setting, rows: list[Row], colours: dict[str, str], key: str) -> None:
    """Shows the plot of one setting, and what must be known of it."""
    screen.title(setting.place, setting.images_text)
    drawn = measured_rows.drawable(rows)
    if drawn:
        st.altair_chart(plot(setting, drawn, colours), width="stretch", key=key)
    else:
        screen.empty("Nothing to draw", "No row here has both an accuracy and a cost.")
    if 0 < len(drawn) < len(rows):
        st.caption(f"{len(rows) - len(drawn)} of {len(rows)} rows lack an accuracy or a cost.")
    if setting.caution:
        st.caption(setting.caution)
    _, beware = measurement_columns.without_shared_flags(rows)
    if beware:
        st.caption(screen.plain(beware))


screen.heading("Compare", "What each exported file costs and how often it is right, measured on the file itself.")
root = screen.root()
found = measured_rows.measured(root)
screen.damaged(found.damaged)
if not found.rows:
    screen.empty("No measurements yet", f"There are none under {root}. This makes some:", FIRST)
    st.stop()

rows = filtered(found.rows)
if not rows:
    screen.empty("No rows left", "Nothing passes these filters together; take one back.")
    st.stop()
colours = plot_style.colours(row.model for row in found.rows)
shown = {row.model for row in rows}, {row.format for row in rows}
screen.legend(
    {model: colour for model, colour in colours.items() if model in shown[0]},
    {format: plot_style.SHAPES[format].character for format in LISTED if format in shown[1]},
)
panels(rows, colours)
st.caption(
    "Up and to the left is better. The area of a point is the size of its file. The dashed line is the Pareto front: "
    "no file is both cheaper and more accurate than one on it."
)
table(rows)
st.caption("Click a heading to sort by it; rest on it to read what it means.")
