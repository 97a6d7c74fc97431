"""spark-submit pipelines/prebatch.py --config FILE: writes a dataset of training records. Parses, runs, exits."""

# spark-submit puts this file's folder in front of sys.path, where inspect.py would hide the standard library's.
import sys

sys.path[:] = [path for path in sys.path if not path.rstrip("/").endswith("/pipelines")]

import contextlib  # noqa: E402
import datetime as dt  # noqa: E402
import importlib  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402

import click  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parent.parent))

from pipelines import early  # noqa: E402

early.prefer_installed()
early.wake_jvm()

from pipelines.commands import Command, log_option, progress_option, reporting_errors  # noqa: E402
from pipelines.config import Config  # noqa: E402
from pipelines.days import for_date  # noqa: E402
from schemas import configuration, events, redaction  # noqa: E402
from schemas.errors import ConfigurationError  # noqa: E402


@click.command(cls=Command)
@click.option("--config", "path", required=True, type=click.Path(path_type=Path), help="The job file (YAML).")
@click.option(
    "--date",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Write below dt=DATE of the output what was known at the end of that day (UTC).",
)
@click.option("--output", help="Where the dataset goes, instead of output.path.")
@click.option("--overwrite", is_flag=True, help="Replace a dataset that is there, once the new one is complete.")
@click.option(
    "--epoch-from",
    type=click.IntRange(1),
    metavar="N",
    help="Append sets of negatives N to negatives.epochs - 1 to the dataset that is there, which has N of them.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and an estimate of records and bytes; write nothing.")
@click.option(
    "--set", "overrides", multiple=True, metavar="a.b=v", help="Override one key of the job file; may be repeated."
)
@log_option
@progress_option
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(
    path: Path, date: dt.datetime | None, output: str | None, overwrite: bool, epoch_from: int | None, dry_run: bool,
    overrides: tuple[str, ...], log: events.Format, shown: bool | None, debug: bool,
) -> None:  # fmt: skip
    """Draw negatives for clicks and write them, with full item features, as TFRecords."""
    with reporting_errors(debug, log):
        given = [*overrides, f"output.path={output}"] if output else list(overrides)
        if date is not None:
            given.append(f"date={date:%Y-%m-%d}")
        config = for_date(configuration.load(Config, path, given))
        if dry_run and config.catalogue.kind == "partitioned":
            raise ConfigurationError(
                "--dry-run: looks at all items on the driver, for which a partitioned catalogue is too large; "
                "leave it out, or add --set catalogue.kind=mapped where they fit"
            )
        # Spark is loaded only once the configuration is known to be right.
        from pipelines import inheritance, mined, outputs
        from pipelines.progress import Progress
        from pipelines.session import spark_session, warm

        mined.check_there(config)
        inheritance.found(config)
        if epoch_from is not None:
            if overwrite:
                raise ConfigurationError("--epoch-from appends and --overwrite replaces; give one of them")
            from pipelines import appending

            appending.checked(config, epoch_from)
        elif not dry_run:
            outputs.publication(config.output, overwrite).check_free()
        progress = Progress(log=log, shown=shown)
        # The JVM starts in a process of its own: what the job needs is loaded meanwhile.
        loading = threading.Thread(target=_load, daemon=True)
        loading.start()
        with progress.step("spark", "starting Spark"):
            spark = spark_session(redaction.text(f"prebatch {config.output.path}"))
        loading.join()  # two threads must not import what imports each other
        from pipelines import dry_run as estimate
        from pipelines import job, report, summary

        warm(spark)
        progress.watch(spark)
        if dry_run:
            click.echo(redaction.text(estimate.text(spark, config, progress, epoch_from or 0)))
            return
        dataset = job.run(spark, config, overwrite, progress, epoch_from or 0)
        page = report.write(dataset)
        if log == "json":
            for event in summary.told(dataset, page):
                progress.tell(**event)
            return
        click.echo(summary.table(dataset.manifest))
        click.echo(f"dataset: {dataset.uri}\nreport:  {page}")


def _load() -> None:
    """Imports what Spark would stop for: our own, and what PySpark imports once it is asked for something."""
    for name in ("pyspark.testing.utils", "pandas", "pipelines.job", "pipelines.summary", "pipelines.report"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


if __name__ == "__main__":
    main()
