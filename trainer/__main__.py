"""The trainer's command line: parses, loads, calls, prints. TensorFlow is imported only once the arguments are good."""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from schemas import configuration
from schemas.errors import EnvironmentProblem, ProjectError
from schemas.manifest import Dataset
from trainer import cache
from trainer.config import Configuration


def main() -> None:
    """Console entry point; exit codes: 0 done, 2 bad configuration or arguments, else the error's own or 1."""
    arguments = sys.argv[1:]
    try:
        sys.exit(commands.main(arguments, prog_name="python -m trainer", standalone_mode=False) or 0)
    except click.ClickException as error:
        print(f"trainer: {error.format_message()}; see --help", file=sys.stderr)
        sys.exit(2)
    except (click.exceptions.Abort, KeyboardInterrupt):
        print("trainer: interrupted; the same command goes on after the last finished epoch or run", file=sys.stderr)
        sys.exit(1)
    except ProjectError as error:
        _fail(error, error.exit_code, arguments)
    except Exception as error:  # noqa: BLE001 - the last resort of a command line: no traceback unless it is asked for
        _fail(error, 1, arguments)


def _fail(error: Exception, code: int, arguments: list[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()
    kind = "" if isinstance(error, ProjectError) else f"{type(error).__name__}: "
    text = str(error) if isinstance(error, ProjectError) else " ".join(str(error).split())[:500]
    hint = "" if isinstance(error, ProjectError) else "; --debug shows where"
    print(f"trainer: {kind}{text}{hint}", file=sys.stderr)
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
@_debug_option
def train(
    data: str, config_path: str | None, overrides: tuple[str, ...], output: Path, fresh: bool, debug: bool
) -> None:
    """Train, evaluate, export; ends with the metrics and three users' recommendations."""
    config = configuration.load(Configuration, config_path, overrides)
    _ready(data, debug)
    from trainer import run

    run.train(data, config, output, _say, fresh)


@commands.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder that `train` wrote.")
@_data_option
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where metrics.json goes; the model's folder by default."
)
@_debug_option
def evaluate(model: Path, data: str, output: Path | None, debug: bool) -> None:
    """Recompute the metrics from the exported towers, with raw values as a client would send them."""
    _ready(data, debug)
    from trainer import run

    run.evaluate(model, data, output or model, _say)


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


def _ready(data: str, debug: bool) -> None:
    """Starts TensorFlow; a dataset that is not there is told before that."""
    Dataset.open(data)
    _start_tensorflow(debug)


def _start_tensorflow(debug: bool) -> None:
    """Imports TensorFlow, which takes seconds, without its start-up messages."""
    _say("starting TensorFlow, some seconds")
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
    print(line, flush=True)


if __name__ == "__main__":
    main()
