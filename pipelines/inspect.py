"""python -m pipelines.inspect URI: a dataset's manifest as tables and some of its records in words, on a terminal.

With a second dataset, `python -m pipelines.inspect A B`, what has changed from A to B, and exit code 1 where that is
more than a limit allows: a check between two days. Needs neither Spark nor TensorFlow. What it reads is verified first;
`--verify` checks every file of the dataset.
Do not put this folder itself on sys.path: the file would hide the standard library's `inspect`.
"""

import dataclasses
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from pipelines import drift, readable, summary, words
from pipelines.commands import reporting_errors
from pipelines.distributions import SAMPLE_CLICKS, Distributions
from pipelines.readable import ReadableClick, ReadableRecord
from schemas import events
from schemas.errors import ConfigurationError, CorruptDataset
from schemas.files import write_atomically
from schemas.manifest import Dataset, Manifest
from schemas.record import Column, RecordSpec

SPLITS = ("train", "validation", "test", "items")
_LIMITS = {
    "psi": "the PSI of any distribution, beyond what chance explains",
    "shift": "any number's mean moves, in standard deviations",
    "rejected": "an input's share of rejected rows rises",
    "clicks": "training clicks change, as a share of A's",
    "new": "values are new in a vocabulary, as a share of A's",
    "vanished": "values are gone from a vocabulary, as a share of A's",
}


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    for name, what in reversed(_LIMITS.items()):
        default = getattr(drift.Limits(), name)
        text = f"With two datasets: fail where {what} by more than this.  [default: {default:g}]"
        command = click.option(f"--max-{name}", name, type=click.FloatRange(0), help=text)(command)
    return command


@click.command()
@click.argument("uri")
@click.argument("other", required=False)
@click.option("--records", default=1, show_default=True, type=click.IntRange(0), help="How many records to show.")
@click.option("--split", default="train", show_default=True, type=click.Choice(SPLITS), help="Where to take them from.")
@click.option(
    "--clicks",
    "shown_clicks",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Clicks to show of each record.",
)
@click.option("--verify", is_flag=True, help="Check size and checksum of every file; exit 1 if one differs.")
@_limits
@click.option(
    "--sample", type=click.IntRange(0), help="With two datasets: train clicks of each to look at for users' features."
    f"  [default: {SAMPLE_CLICKS}]",
)  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the comparison here, too.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(
    uri: str, other: str | None, records: int, split: str, shown_clicks: int, verify: bool, sample: int | None,
    file: Path | None, debug: bool, **limits: float | None,
) -> None:  # fmt: skip
    """Show the manifest of a dataset URI and some of its records in words; with OTHER, what has changed from URI to it,
    and exit code 1 where that is too much.
    """
    with reporting_errors(debug), _reader_may_leave():
        dataset = Dataset.open(uri)
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if other is not None:
            later = Dataset.open(other)
            if verify:
                click.echo("\n".join(verified(one) for one in (dataset, later)))
            clicks = SAMPLE_CLICKS if sample is None else sample
            sys.exit(compared(dataset, later, drift.Limits(**given), clicks, file))
        if given or sample is not None or file is not None:
            raise ConfigurationError("--max-..., --sample and --json compare two datasets; name the second one")
        click.echo(text(dataset.manifest, dataset.name))
        if verify:
            click.echo(f"\n{verified(dataset)}")
        if records:
            click.echo(f"\n{shown_records(dataset, split, records, readable.Shown(clicks=shown_clicks))}")


def compared(before: Dataset, after: Dataset, limits: drift.Limits, sample: int, file: Path | None) -> int:
    """Prints what has changed, and on stderr a line for each limit that is passed; returns the exit code."""
    found = drift.Drift.between(*(Distributions.of(dataset, sample) for dataset in (before, after)))
    exceeded = list(found.exceeded(limits))
    if file is not None:
        document = {"limits": dataclasses.asdict(limits), "exceeded": exceeded, **found.to_json()}
        write_atomically(file, json.dumps(events.finite(document), indent=1, ensure_ascii=False).encode())
    click.echo(drift.text(found))
    for sentence in exceeded:
        click.echo(f"drift: {sentence}", err=True)
    return 1 if exceeded else 0


def text(manifest: Manifest, name: str) -> str:
    """The manifest as tables."""
    head = [
        ("dataset", f"{name}, format version {manifest.format_version}"),
        ("written", f"{manifest.created}, run {manifest.run}, in {_seconds(manifest)}"),
        ("fingerprint", manifest.schema_fingerprint),
        *words.choices(manifest.config),
        ("versions", ", ".join(f"{package} {version}" for package, version in manifest.versions.items())),
    ]
    keys = "\n".join(f"  {key:<28}{dtype:<10}{shape}" for key, dtype, shape in key_rows(manifest.record))
    return f"{_terms(head)}\n{summary.table(manifest)}\n\nkeys of a train record\n{keys}"


def key_rows(spec: RecordSpec) -> Iterator[tuple[str, str, str]]:
    """(key, dtype, shape in words) of each key of a train record."""
    entities = {"row": "the click's", "block": "one a click", "sequence": "one a window"}
    for column in spec.train_columns():
        yield column.key, column.dtype, _shape(column, spec, entities[spec.layout])


def _shape(column: Column, spec: RecordSpec, users: str) -> str:
    if column.shape is not None:
        return f"[{', '.join(map(str, column.shape))}]" if column.shape else "one number"
    width = f", {column.width} numbers each" if column.width > 1 else ""
    if column.lengths:
        return f"values of {' and '.join(column.lengths)}{width}"
    if column.key == "sequence.lengths":
        return "one a window"
    if "hit" in column.key:
        return "one an accidental hit" if spec.layout == "block" else "one a run of accidental hits"
    if column.key == "history.lengths":
        return "one a click"
    side = column.key.partition(".")[0]
    item = "one an item of the record's histories" if spec.layout == "block" else "one a history item"
    return {"user": users, "item": "one an item of the record", "history": item}.get(side, "one a click") + width


def verified(dataset: Dataset) -> str:
    """A line that says that every file of the manifest is what it says.

    Raises:
      CorruptDataset: it names each file that is missing or differs.
    """
    files, problems = dataset.manifest.stored_files(), []
    for file in files:
        try:
            dataset.check(file)
        except CorruptDataset as error:
            problems.append(str(error))
    if problems:
        count = f"{len(problems)} of {len(files)} files"
        raise CorruptDataset(f"{count} are not what the manifest says: {'; '.join(problems)}")
    total = sum(file.bytes for file in files)
    return (
        f"verified     {words.counted(len(files), 'file')}, {words.size(total)}: sizes and checksums are the manifest's"
    )


def shown_records(dataset: Dataset, split: str, count: int, shown: readable.Shown) -> str:
    """Some records of a split in words.

    Raises:
      ConfigurationError: the split holds none. CorruptDataset: a shard that differs from the manifest.
    """
    found = readable.records(dataset, split, count, shown)
    if not found:
        held = ", ".join(name for name, part in dataset.manifest.splits.items() if part.records)
        raise ConfigurationError(f"--split {split}: this dataset has no {split} records; it has {held} and items")
    return "\n\n".join("\n".join(_record(record)) for record in found)


def _record(record: ReadableRecord) -> Iterator[str]:
    head = f"{record.shard}, record {record.number}: {words.size(record.bytes)}"
    if record.item is not None:
        yield head
        clicks = words.counted(record.item.count, "training click")
        name, key = readable.printable(record.item.name), readable.printable(record.item.key)
        yield f"  item {record.item.index}: {name} (key {key}), {clicks}"
        yield f"    {_pairs(record.item_features)}"
        return
    yield f"{head}, {words.counted(record.clicks_total, 'click')}"
    for readable_click in record.clicks:
        yield from _click(readable_click)
    if record.clicks_total > len(record.clicks):
        yield f"  ... {words.counted(record.clicks_total - len(record.clicks), 'more click')}"


def _click(shown: ReadableClick) -> Iterator[str]:
    weight = "" if shown.weight == 1 else f", weight {shown.weight:g}"
    yield f"  click at {shown.time}{weight}"
    history = ([f"{shown.earlier:,} earlier"] if shown.earlier else []) + shown.history
    facts = [("user", _pairs(shown.user)), ("history", " > ".join(history) or "none")]
    if shown.known is not None:
        facts.append(("exclude", f"{words.counted(shown.known, 'item')} when ranking"))
    yield textwrap.indent(_terms(facts, 9), "    ")
    width = max(len(candidate.name) for candidate in shown.candidates)
    for candidate in shown.candidates:
        log_q = " " * 8 if candidate.log_q is None else f"{candidate.log_q:8.3f}"
        yield _cut(f"    {candidate.role:<9}{log_q}  {candidate.name:<{min(width, 40)}}  {_pairs(candidate.features)}")
    if shown.further:
        masked = f"; {shown.masked:,} of all are masked" if shown.masked else ""
        yield f"    ... {words.counted(shown.further, 'more candidate')}{masked}"


def _pairs(features: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in features.items())


def _terms(pairs: Sequence[tuple[str, str]], indent: int = 13) -> str:
    """Names with their texts wrapped beside them."""
    lines = [
        textwrap.fill(value, _width() - 4, initial_indent=f"{name:<{indent}}", subsequent_indent=" " * indent)
        for name, value in pairs
    ]
    return "\n".join(lines)


def _width() -> int:
    return max(60, min(shutil.get_terminal_size((120, 24)).columns, 160))


def _cut(line: str) -> str:
    return line if len(line) <= _width() else line[: _width() - 3] + "..."


def _seconds(manifest: Manifest) -> str:
    return words.duration(manifest.timings_seconds.get("total", 0))


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """A pipe that its reader closes early (`| head`) is no error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
