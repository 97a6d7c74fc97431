"""What the benchmarks found, for people: tables as Markdown and HTML, plots as SVG. Pure functions of bench.json."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pipelines import page, svg
from pipelines.svg import Series
from pipelines.words import size


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; the first `words` columns are no numbers."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]]
    words: int = 1

    def markdown(self) -> str:
        marks = ["---" if place < self.words else "---:" for place in range(len(self.header))]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.header, marks, *self.rows)]
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"


def write(found: dict[str, Any], folder: Path) -> str:
    """Writes bench.md, bench.html and a file a plot; the Markdown."""
    text = "\n".join(table.markdown() for table in tables(found))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.md").write_text(text, encoding="utf-8")
    drawn = dict(plots(found))
    for name, plot in drawn.items():
        (folder / f"{name}.svg").write_text(alone(plot), encoding="utf-8")
    sections = [
        page.section(table.title, page.table(table.header, table.rows, len(table.header) - table.words))
        for table in tables(found)
    ]
    figures = page.section("Plots", *map(page.figure, drawn.values()))
    (folder / "bench.html").write_text(page.document("Benchmarks", [*sections, figures]), encoding="utf-8")
    return text


def alone(plot: str) -> str:
    """A plot of `pipelines.svg` as a file of its own, in the colours of the page."""
    inner, _, legend = plot.partition("</svg>")
    inner = inner.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" ', 1)
    names = re.findall(r'<i class="(\w+)[^"]*"></i>([^<]*)', legend)
    told = "".join(
        f'<text class="label" x="{svg.LEFT + 8}" y="{svg.TOP + 12 + 15 * row}">'
        f'<tspan class="{css}">■</tspan> {name}</text>'
        for row, (css, name) in enumerate(names)
    )
    head, begin, rest = inner.partition(">")
    return f"{head}{begin}<style>{escape(page.STYLE, quote=False)}</style>{rest}{told}</svg>\n"


def tables(found: dict[str, Any]) -> Iterator[Table]:
    """What was measured, a table a part."""
    if "encoder" in found:
        yield from _encoder(found["encoder"])
    if "whole" in found:
        yield from _whole(found["whole"])
    if "growth" in found:
        yield from _growth(found["growth"])
    if "layouts" in found:
        yield Table(
            "Layouts",
            ("data", "layout", "compression", "negatives", "bytes a click", "clicks/s read", "MB/s"),
            [
                (row["data"], row["layout"], row["compression"], f"{row['negatives']:,}",
                 f"{row['bytes_a_click']:,.1f}", f"{row['clicks_per_second']:,}", f"{row['megabytes_per_second']:,.0f}")
                for row in found["layouts"] if "failed" not in row
            ],
            3,
        )  # fmt: skip


def _encoder(found: dict[str, Any]) -> Iterator[Table]:
    names = {"loop": "tf.train.Example, TFRecordWriter", "row": "ours, row", "block": "ours, block"}
    yield Table(
        "Encoder, one core",
        ("way", "negatives", "clicks a processor second", "times the loop", "bytes a click"),
        [
            (told, str(figures["negatives"]), f"{own['clicks_a_cpu_second']:,}", f"{own['times_the_loop']:.1f}",
             f"{own['bytes_a_click']:,.0f}")
            for figures in found["results"] for name, told in names.items() for own in [figures[name]]
        ],
    )  # fmt: skip


def _whole(found: dict[str, Any]) -> Iterator[Table]:
    yield Table(
        f"Whole job, {found['items']:,} items, K={found['negatives']}",
        ("program", "clicks", "seconds", "clicks/s", "processor seconds", "MB written", "JVM", "driver's Python",
         "largest worker", "checked"),
        [
            (
                row["program"], f"{row['clicks']:,}",
                f"{row['seconds']:.1f}" if row["seconds"] else f"> {row['cut_after_seconds'] or 0:.0f}",
                f"{row['clicks_per_second'] or 0:,}", _cell(row["cpu_seconds"]), f"{row['bytes'] / 1e6:,.0f}",
                *(size(row["peak_bytes"].get(kind, 0)) for kind in ("jvm", "driver", "worker")),
                "" if row["wrong"] is None else "right" if not row["wrong"] else "; ".join(row["wrong"]),
            )
            for row in found["rows"]
        ],
    )  # fmt: skip
    yield Table(
        "Ours over theirs",
        ("ours", "over", "clicks", "times as fast"),
        [
            (row["ours"], row["over"], f"{row['clicks']:,}", f"{'> ' if row['at_least'] else ''}{row['ratio']:.1f}")
            for row in found["ratios"]
        ],
        2,
    )


def _growth(found: dict[str, Any]) -> Iterator[Table]:
    yield Table(
        "Growth: one thing at a time",
        ("varied", "clicks", "negatives", "items", "seconds", "microseconds a click", "bytes a click", "JVM",
         "driver's Python", "largest worker", "of which its own"),
        [
            (
                row["varied"], f"{row['clicks']:,}", f"{row['negatives']:,}", f"{row['items']:,}",
                f"{row['seconds']:.1f}", f"{row['microseconds_a_click']:.1f}", f"{row['bytes_a_click']:,.0f}",
                *(size(row["peak_bytes"].get(kind, 0)) for kind in ("jvm", "driver", "worker")),
                size(row["own_bytes"].get("worker", 0)),
            )
            for row in found["rows"] if "failed" not in row
        ],
    )  # fmt: skip
    skew = found["skew"]
    yield Table(
        f"One user with two thirds of {skew['clicks']:,} clicks, one item with a third; histories of {skew['history']}",
        ("log", "stage", "tasks", "longest task, s", "median task, s", "shuffled MB"),
        [
            (name, str(stage["stage"]), str(stage["tasks"]), f"{stage['longest']:.1f}", f"{stage['median']:.1f}",
             f"{stage['shuffled_bytes'] / 1e6:,.0f}")
            for name in ("even", "skewed") for stage in skew[name].get("stages", ())
        ],
    )  # fmt: skip


def plots(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(file name, plot) of what was measured."""
    if "whole" in found:
        rows = found["whole"]["rows"]
        programs = list(dict.fromkeys(row["program"] for row in rows))
        sizes = list(dict.fromkeys(row["clicks"] for row in rows))
        series = [
            Series(
                f"{clicks:,} clicks",
                [next(r["seconds"] or r["cut_after_seconds"] or 0 for r in rows
                      if r["program"] == name and r["clicks"] == clicks) for name in programs],
                css,
            )
            for clicks, css in zip(sizes, ("one", "two"), strict=False)
        ]  # fmt: skip
        yield "whole-job", svg.bars(programs, series, "Seconds of the whole job", "", "seconds", svg.short)
    if "growth" in found:
        for what in ("clicks", "negatives", "items"):
            rows = [row for row in found["growth"]["rows"] if row["varied"] == what and "failed" not in row]
            x = [row[what] for row in rows]
            if len(x) < 2:
                continue
            seconds = Series("seconds", [row["seconds"] for row in rows], "one", "line")
            yield (
                f"growth-{what}",
                svg.curves(x, [seconds], f"Seconds by {what}", what, "seconds", True, True, svg.short),
            )
            peak = Series("a Python worker", [row["peak_bytes"]["worker"] / 2**20 for row in rows], "one", "line")
            jvm = Series("the JVM", [row["peak_bytes"]["jvm"] / 2**20 for row in rows], "two", "line")
            yield (
                f"memory-{what}",
                svg.curves(x, [peak, jvm], f"Peak memory by {what}", what, "MiB", True, True, svg.short),
            )
    for data in dict.fromkeys(row["data"] for row in found.get("layouts", ())):
        rows = [row for row in found["layouts"] if row["data"] == data and "failed" not in row]
        for key, title in (("bytes_a_click", "Bytes a click"), ("clicks_per_second", "Clicks read a second")):
            names = list(dict.fromkeys(row["layout"] for row in rows))
            series = [
                Series(kind, [next(r[key] for r in rows if r["layout"] == name and r["compression"] == kind)
                              for name in names], css)
                for kind, css in (("none", "one"), ("gzip", "two"))
            ]  # fmt: skip
            place = re.sub(r"\W+", "-", data.lower())
            yield (
                f"layouts-{place}-{key.replace('_', '-')}",
                svg.bars(names, series, f"{title}, {data}", "", title.lower(), svg.short),
            )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value if value is not None else "")
