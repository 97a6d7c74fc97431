"""python -m pipelines.audit URI: an independent reading of a finished dataset, with Apache Beam.

Nothing of the code that wrote the records is used to read them (see pipelines/auditing). Exit code 1 means findings, 0
none, 2 bad arguments. Needs `pip install 'prebatch[beam]'`; neither Spark nor TensorFlow.
"""

import sys
from pathlib import Path

import click
import numpy as np

from pipelines.auditing import agreement, graph, report, source, totals
from pipelines.auditing import items as item_table
from pipelines.auditing.declared import declared
from pipelines.auditing.findings import Findings
from pipelines.auditing.tally import MOST_HASHES, Tally
from pipelines.commands import Command, log_option, reporting_errors
from schemas import events, storage
from schemas.errors import ConfigurationError, CorruptDataset
from schemas.files import write_atomically
from schemas.manifest import MANIFEST, Dataset, Manifest


@click.command(cls=Command)
@click.argument("uri")
@click.option("--items", "source_path", help="The item table that the dataset was made of (Parquet), to compare with.")
@click.option("--report", "report_path", help="An HTML file to write the findings to.")
@log_option
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(uri: str, source_path: str | None, report_path: str | None, log: events.Format, debug: bool) -> None:
    """Read a finished dataset anew, and say what is not as it should be."""
    with reporting_errors(debug, log):
        if not storage.folder(uri).exists(MANIFEST):
            raise ConfigurationError(f"expected the folder of a dataset, but {uri} has no {MANIFEST}")
        for option, path in (("--items", source_path), ("--report", report_path)):
            if path is not None and (not Path(path).is_file() if option == "--items" else Path(path).is_dir()):
                raise ConfigurationError(f"{option}: expected a file, got {path}")
        dataset = Dataset.open(uri)
        findings = audited(dataset, source_path)
        if report_path is not None:
            write_atomically(Path(report_path), report.html(dataset, findings).encode())
        if log == "json":
            for line in report.told(dataset, findings):
                click.echo(line, err=True)
        else:
            click.echo(report.text(dataset.name, findings))
        sys.exit(1 if findings.found else 0)


def audited(dataset: Dataset, source_path: str | None = None) -> Findings:
    """What an audit of a dataset finds.

    Args:
      source_path: Parquet file of the item table, to compare items/ with, and negatives with when items could be had;
        None compares records with items/ alone.

    Raises:
      ConfigurationError: `source_path` is no table with the dataset's columns.
    """
    manifest, findings = dataset.manifest, Findings()
    items, sizes = item_table.read(dataset, findings)
    if items is None:
        for name in ("attributes", "positives", "exclusion", "history", "held_out", "sets", "log_q", "distribution"):
            findings.skip(name, "items/ cannot be read as a whole")
    else:
        if source_path is None:
            findings.skip("source", "no --items given")
        else:
            items = source.compared(dataset, items, source_path, findings)
        tally = _read(dataset, items)
        findings.merge(tally.findings)
        sizes |= tally.shards
    if items is not None or not manifest.items.records:
        totals.counts(manifest, sizes, findings)
    totals.files(dataset, sizes, findings)
    return findings


def _read(dataset: Dataset, items: item_table.Items) -> Tally:
    """The shards of clicks."""
    manifest = dataset.manifest
    told = declared(manifest, items.counts.astype(np.float64), items.frequency, items.gone)
    clicks = manifest.splits["train"].clicks
    held_out = sum(split.clicks for name, split in manifest.splits.items() if name != "train")
    job = graph.Job(
        spec=manifest.record,
        items=items,
        declared=told,
        sets=manifest.splits["train"].epochs,
        split=str(manifest.config.get("split", {}).get("kind", "none")),
        user_feature=user_feature(manifest),
        expected=manifest.rows.get("clicks", {}).get("used"),
        share=MOST_HASHES / max(clicks, 1),
    )
    tasks = []
    for name, split in manifest.splits.items():
        for shard in split.shards:
            if not 0 <= shard.epoch < split.epochs:
                raise CorruptDataset(f"{shard.path}: set {shard.epoch} expected below {split.epochs}")
            tasks.append(graph.Task(shard.path, dataset.location(shard), name, shard.epoch))
    tally = graph.run(tasks, job)
    counted = int(tally.positives[0].sum()) + held_out
    totals.positives(tally, items, manifest, counted == job.expected)
    agreement.distribution(tally, told)
    agreement.repetition(tally, told, job.share)
    return tally


def user_feature(manifest: Manifest) -> str | None:
    """The user feature that tells users apart: a vocabulary of the column that names them, None for none."""
    config = manifest.config
    columns = {config.get("clicks", {}).get("user"), config.get("users", {}).get("key")} - {None}
    return next(
        (f.name for f in manifest.record.user if f.encode == "vocabulary" and f.width and f.column in columns), None
    )


if __name__ == "__main__":
    main()
