"""Ratios are of medians, a program that was cut off gives a bound, and every plot is a picture of its own."""

from xml.etree import ElementTree as ET

from tests.benchmarks import report
from tests.benchmarks.process import Peak, Usage
from tests.benchmarks.whole_job import Run, ratios


def usage(seconds, ended=True):
    peaks = {kind: Peak(1 << 20, 1 << 19, seconds / 2) for kind in ("jvm", "driver", "worker")}
    return Usage(seconds, 0 if ended else -9, ended, peaks)


def rows():
    runs = [
        Run("naive join", 1000, [usage(500, ended=False)]),
        Run("broadcast dict", 1000, [usage(90), usage(30), usage(60)], 5_000_000, ["3 records for 4 clicks"]),
        Run("ours, row", 1000, [usage(11), usage(10), usage(9)], 4_000_000, []),
        Run("ours, block", 1000, [usage(20)], 1_000_000),
    ]
    return [run.row() for run in runs]


def growth_row(varied, value):
    sizes = {"clicks": 100, "items": 100, "negatives": 20, varied: value}
    peaks = {"jvm": 2 << 20, "driver": 1 << 20, "worker": 3 << 20}
    figures = {"seconds": value / 10, "microseconds_a_click": 1.0, "bytes_a_click": 9.0, "peak_bytes": peaks}
    return {"varied": varied, **sizes, **figures, "own_bytes": peaks}


def layout_row(layout, compression):
    figures = {"negatives": 20, "bytes_a_click": 700.0, "clicks_per_second": 10_000, "megabytes_per_second": 7.0}
    return {"data": "100,000 items", "layout": layout, "compression": compression, **figures}


def test_ratios_are_of_medians_or_bounds():
    found = {(one["ours"], one["over"]): (one["ratio"], one["at_least"]) for one in ratios(rows())}
    assert found["ours, row", "broadcast dict"] == (6.0, False)
    assert found["ours, row", "naive join"] == (50.0, True)
    assert found["ours, block", "broadcast dict"] == (3.0, False)


def test_report_says_what_was_wrong_and_draws_pictures(tmp_path):
    skewed = {"stages": [{"stage": 4, "tasks": 8, "longest": 9.0, "median": 3.0, "shuffled_bytes": 5_000_000}]}
    found = {
        "whole": {"items": 100, "negatives": 20, "rows": rows(), "ratios": ratios(rows())},
        "growth": {
            "rows": [growth_row("clicks", 100), growth_row("clicks", 1000), growth_row("items", 100)],
            "skew": {"clicks": 1000, "history": 50, "even": {}, "skewed": skewed},
        },
        "layouts": [layout_row(name, kind) for name in ("row", "block") for kind in ("none", "gzip")],
    }
    text = report.write(found, tmp_path)
    assert "3 records for 4 clicks" in text
    assert "| ours, row | naive join | 1,000 | > 50.0 |" in text
    assert "| skewed | 4 | 8 | 9.0 | 3.0 | 5 |" in text
    pictures = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert pictures == [
        "growth-clicks.svg", "layouts-100-000-items-bytes-a-click.svg", "layouts-100-000-items-clicks-per-second.svg",
        "memory-clicks.svg", "whole-job.svg",
    ]  # fmt: skip
    for name in pictures:
        assert ET.parse(tmp_path / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"
