"""The trainer's command line: parses, loads, calls, prints. TensorFlow is imported only once the arguments are good."""

import contextlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import click

from schemas import configuration, events, redaction
from schemas.errors import ConfigurationError, EnvironmentProblem, ProjectError
from schemas.files import local_path
from schemas.manifest import Dataset
from trainer import cache
from trainer.config import Configuration


def main() -> None:
    """Console entry point; exit codes: 0 done, 2 bad configuration or arguments, else the error's own or 1."""
    arguments = sys.argv[1:]
    try:
        sys.exit(commands.main(arguments, prog_name="python -m trainer", standalone_mode=False) or 0)
    except click.ClickException as error:
        _end(f"{error.format_message()}; see --help", 2, "ConfigurationError", arguments)
    except (click.exceptions.Abort, KeyboardInterrupt):
        told = "interrupted; the same command goes on after the last finished epoch or run"
        _end(told, 1, "interrupted", arguments)
    except ProjectError as error:
        _fail(error, error.exit_code, arguments)
    except Exception as error:  # noqa: BLE001 - the last resort of a command line: no traceback unless it is asked for
        _fail(error, 1, arguments)


def _fail(error: Exception, code: int, arguments: list[str]) -> None:
    if "--debug" in arguments:
        print(redaction.text(traceback.format_exc()), end="", file=sys.stderr)
    kind = "" if isinstance(error, ProjectError) else f"{type(error).__name__}: "
    text = str(error) if isinstance(error, ProjectError) else " ".join(str(error).split())[:500]
    hint = "" if isinstance(error, ProjectError) else "; --debug shows where"
    _end(f"{kind}{text}{hint}", code, type(error).__name__, arguments)


def _end(message: str, code: int, kind: str, arguments: list[str]) -> NoReturn:
    if "--log=json" in arguments or ("--log", "json") in pairwise(arguments):
        print(events.line("error", message, "error", kind=kind, exit_code=code), file=sys.stderr)
    else:
        print(redaction.text(f"trainer: {message}"), file=sys.stderr)
    sys.exit(code)


def _data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    command = _cache_option(command)
    return click.option("--data", required=True, metavar="URI", help="Folder of a finished dataset.")(command)


def _cache_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--cache",
        type=click.Path(file_okay=False),
        metavar="DIR",
        envvar=cache.VARIABLE,
        expose_value=False,
        callback=_use_cache,
        help=f"Where copies of datasets on object stores are kept; by default {cache.VARIABLE}, or the user's cache.",
    )(command)


def _use_cache(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
    """Processes that this one starts are to find the same copies."""
    if value is not None:
        os.environ[cache.VARIABLE] = value


def _config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--set", "overrides", multiple=True, metavar="a.b=v", help="Override one configuration key."
    )(command)
    return click.option("--config", "config_path", metavar="FILE", help="YAML; without it the defaults.")(command)


def _debug_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--debug", is_flag=True, help="Show tracebacks and TensorFlow's own messages.")(command)


def _log_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Events go to stderr, as those of the producer do."""
    text = "How to tell what happens: words, or one JSON object a line on stderr."
    return click.option("--log", type=click.Choice(events.FORMATS), default="text", show_default=True, help=text)(
        command
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Trains two towers on a dataset of prebatched negatives, and evaluates them on the full catalogue."""


@commands.command()
@_data_option
@_config_options
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="Folder of the model; replaced when done."
)
@click.option("--fresh", is_flag=True, help="Start anew even where an unfinished run could go on.")
@click.option(
    "--warm-start",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Begin with the weights of this model, which was trained on the dataset that --data inherits from.",
)
@_log_option
@_debug_option
def train(
    data: str, config_path: str | None, overrides: tuple[str, ...], output: Path, fresh: bool, warm_start: Path | None,
    log: events.Format,
    debug: bool,
) -> None:  # fmt: skip
    """Train, evaluate, export; ends with the metrics and three users' recommendations."""
    config = configuration.load(Configuration, config_path, overrides)
    say = _TELLERS[log]
    _ready(data, debug, say)
    from trainer import run

    run.train(data, config, output, say, fresh, warm_start)
    _tell_metrics("trained", output, log)


@commands.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder that `train` wrote.")
@_data_option
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where metrics.json goes; the model's folder by default."
)
@_log_option
@_debug_option
def evaluate(model: Path, data: str, output: Path | None, log: events.Format, debug: bool) -> None:
    """Recompute the metrics from the exported towers, with raw values as a client would send them."""
    say = _TELLERS[log]
    _ready(data, debug, say)
    from trainer import run

    run.evaluate(model, data, output or model, say)
    _tell_metrics("evaluated", output or model, log)


@commands.command("embed-clicks")
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder that `train` wrote.")
@_data_option
@click.option("--queries", required=True, type=click.Path(path_type=Path), help="What `pipelines.queries` wrote.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder; replaced when done.")
@_debug_option
def embed_clicks(model: Path, data: str, queries: Path, output: Path, debug: bool) -> None:
    """Write the user tower's vector at each training click, for pipelines/mine.py."""
    _ready(data, debug)
    from trainer import click_vectors

    click_vectors.embed(model, data, queries, output, _say)


@commands.command()
@_data_option
@_config_options
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="Runs, with seeds 1, 2, 3...")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for quality.json.")
@_debug_option
def quality(
    data: str, config_path: str | None, overrides: tuple[str, ...], seeds: int, output: Path, debug: bool
) -> None:
    """Train with several seeds; mean and standard deviation of each test metric."""
    config = configuration.load(Configuration, config_path, overrides)
    _ready(data, debug)
    from trainer import run

    run.quality(data, config, seeds, output, _say)


@commands.command()
@click.option("--config", "config_path", required=True, metavar="FILE", help="YAML with the variants.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=v", help="Override one key of it, as seeds=5.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the rows and the report.")
@click.option("--fresh", is_flag=True, help="Run everything anew, finished runs too.")
@_cache_option
@_debug_option
def compare(config_path: str, overrides: tuple[str, ...], output: Path, fresh: bool, debug: bool) -> int:
    """Train several variants with several seeds, and say which to use; finished runs are kept."""
    del debug  # each run has a log.txt with its traceback
    from trainer import comparison, variants

    plan = variants.load(config_path, overrides)
    return 0 if comparison.compare(plan, output, _say, fresh) else 1


@commands.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder that `train` wrote.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the index; MODEL/index by default.")
@click.option(
    "--embeddings", type=click.Path(path_type=Path), help="What `pipelines.embed` wrote, for a newer catalogue."
)
@click.option(
    "--flat-below", default=100_000, show_default=True, type=click.IntRange(0), help="Items from which on not exact."
)
@click.option(
    "--recall", default=0.95, show_default=True, type=click.FloatRange(0, 1), help="Of the exact top k, to be reached."
)
@click.option("-k", default=100, show_default=True, type=click.IntRange(1), help="Items that recall is about.")
@_debug_option
def index(
    model: Path, output: Path | None, embeddings: Path | None, flat_below: int, recall: float, k: int, debug: bool
) -> None:
    """Build an index of nearest items with faiss; its recall against the exact top k is measured."""
    del debug
    from trainer import index as indexes

    options = indexes.Options(flat_below, recall, k)
    indexes.build(model, embeddings, output or indexes.default(model), options, _say)


@commands.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder that `train` wrote.")
@click.option("--index", "index_path", type=click.Path(path_type=Path), help="What `index` wrote: MODEL/index.")
@click.option("--user", metavar="KEY", help="The user's id.")
@click.option("--history", multiple=True, metavar="ITEM,ITEM,...", help="Ids of what they had, the oldest first.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="Items to show.")
@click.argument("features", nargs=-1, metavar="[FEATURE=VALUE]...")
@_debug_option
def recommend(
    model: Path, index_path: Path | None, user: str | None, history: tuple[str, ...], k: int,
    features: tuple[str, ...], debug: bool,
) -> None:  # fmt: skip
    """Print what the model would show somebody: of a user it carries, or of features and a history given here."""
    given = dict(_feature(text) for text in features)
    if user is None and not history and not given:
        raise click.UsageError("expected --user, --history or FEATURE=VALUE; nothing was given")
    from trainer import index as indexes
    from trainer import recommender

    found = recommender.Recommender(model, index_path or indexes.default(model))
    _start_tensorflow(debug, _say_aside)
    items = recommender.items_of(history, found.index.items["item_id"]) if history else None
    answer = found.recommend(recommender.Request(user, given, items, k))
    for note in answer.notes:
        _say_aside(note)
    _say(recommender.table(answer))


def _feature(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"expected FEATURE=VALUE, got {text!r}")
    return name, value


@commands.command()
@click.option("--model", type=click.Path(path_type=Path), help="Folder that `train` wrote.")
@click.option("--to", "root", required=True, metavar="ROOT", help="Folder of the published models.")
@click.option("--metric", default="recall@50", show_default=True, help="Test figure of metrics.json to go by.")
@click.option(
    "--tolerance", default=0.02, show_default=True, type=click.FloatRange(0, 1, max_open=True),
    help="Share of the published model's figure that may be lost.",
)  # fmt: skip
@click.option("--baseline", type=click.Path(path_type=Path), help="A metrics.json instead of the published model's.")
@click.option("--keep", default=5, show_default=True, type=click.IntRange(1), help="Versions that stay.")
@click.option("--rollback", is_flag=True, help="Go back to the version that served before; without --model.")
@_debug_option
def publish(
    model: Path | None, root: str, metric: str, tolerance: float, baseline: Path | None, keep: int, rollback: bool,
    debug: bool,
) -> None:  # fmt: skip
    """Copy a model to ROOT/<n> and point ROOT/current at it, if it is no worse than the one that serves."""
    del debug
    if (model is None) != rollback:
        raise click.UsageError("expected --model, or --rollback without it")
    from trainer import publication
    from trainer.gate import Gate

    folder = _local(root)
    if model is None:
        publication.roll_back(folder, _say)
    else:
        publication.publish(model, folder, Gate(metric, tolerance, baseline), keep, _say)


def _local(root: str) -> Path:
    try:
        return local_path(root)
    except ProjectError as error:
        raise ConfigurationError(
            f"--to {root}: expected a local or mounted folder; publish to one and copy it, see trainer/README.md"
        ) from error


def _ready(data: str, debug: bool, say: Callable[[str], None] | None = None) -> None:
    """Starts TensorFlow; a dataset that is not there is told before that."""
    Dataset.open(data)
    _start_tensorflow(debug, say or _say)


def _start_tensorflow(debug: bool, say: Callable[[str], None] | None = None) -> None:
    """Imports TensorFlow, which takes seconds, without its start-up messages."""
    (say or _say)("starting TensorFlow, some seconds")
    if not debug:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _quiet_stderr(not debug):
        try:
            import tensorflow as tf
        except ImportError as error:
            raise EnvironmentProblem(
                f"TensorFlow cannot be imported ({error}); install the extra: pip install '.[trainer]'"
            ) from error
        tf.constant(0)
    tf.get_logger().setLevel(logging.ERROR)


@contextlib.contextmanager
def _quiet_stderr(active: bool) -> Iterator[None]:
    """What C++ libraries print while they load, before any log level is heard, goes nowhere."""
    if not active:
        yield
        return
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _say(line: str) -> None:
    print(redaction.text(line), flush=True)


def _say_event(line: str) -> None:
    if line.strip():
        print(events.line("said", line.strip()), file=sys.stderr, flush=True)


def _tell_metrics(event: str, output: Path, log: events.Format) -> None:
    """The figures of metrics.json as the last event."""
    if log == "json":
        metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
        print(events.line(event, f"metrics: {output / 'metrics.json'}", output=str(output), **metrics), file=sys.stderr)


_TELLERS: dict[str, Callable[[str], None]] = {"text": _say, "json": _say_event}


def _say_aside(line: str) -> None:
    """What is no part of the answer, which a program may read."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
