"""The nightly run on Airflow 3: a day's clicks become a dataset, a model and, if it is good enough, what serves.

    prebatch > audit > drift > train > evaluate > evaluate_published > embed > index > publish

Everything is done by this project's commands in its own Python; Airflow only says when, and what to make of an exit
code. Parsing this file starts nothing, reads no file and asks no database: settings are Airflow Variables, looked up
when a task runs (docker/README.md lists them). A run of day D writes below dt=D and replaces what it wrote there
before, so a task may be run again at any time, and days may be made again in any order. A day whose model does not
pass the gate fails, and `current` points where it did.
"""

import datetime as dt
import os
import shlex
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, Asset, BaseOperator, Context, CronDataIntervalTimetable, Variable, chain
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

# Schedule a DAG on this, by name, to run it whenever `current` has moved.
PUBLISHED_MODEL = Asset("prebatch_published_model")

# The same data and the same words will give the same answer, so these are not tried again.
FINAL = {2: "configuration or arguments are wrong", 3: "more rows cannot be used than limits.rejected_share allows"}
AGAIN = {1: "failed", 4: "another run holds the output"}


def published_days(versions: str) -> list[str]:
    """The days, as dt=D in order, whose model is one of `versions` of prebatch_published, a pattern of folder names.

    Known by their metrics.json, which `publish` copies as it is: a day that was made again since is another one.
    """
    root, models = Path(Variable.get("prebatch_published")), Path(Variable.get("prebatch_models"))
    accepted = {path.read_bytes() for path in root.glob(f"{versions}/metrics.json")}
    return sorted(path.parent.name for path in models.glob("dt=*/metrics.json") if path.read_bytes() in accepted)


def earlier_day(date: str) -> str:
    """The day that `date` starts from and is compared with, as dt=D; "" for none, then it starts from nothing.

    That of the model that serves; for a day made later than those after it, the latest one before it that passed the
    gate, as its model must not start from one that has seen what came after.
    """
    for versions in ("current", "*"):
        before = [day for day in published_days(versions) if day < f"dt={date}"]
        if before:
            return before[-1]
    return ""


def may_serve(date: str) -> str:
    """ "yes", or "" where the model of a later day serves already, which a day made late is not to replace."""
    return "" if any(day > f"dt={date}" for day in published_days("current")) else "yes"


def serving() -> str:
    """The folder of the model that serves; "" before the first one."""
    current = Path(Variable.get("prebatch_published")) / "current"
    return str(current) if current.exists() else ""


class ProjectCommand(BaseOperator):
    """Runs `python -m COMMAND` in the project's folder, its output in the task's log.

    Arguments that come out empty are left out. needs: a text; the task is skipped where it comes out empty. submit:
    what to start with in place of `python -m`, as a shell reads it: a spark-submit; empty for none. More options for
    each come from a Variable of its own, prebatch_<task>_options.
    """

    template_fields = ("command", "needs", "submit", "home", "python", "options")

    def __init__(self, *, command: list[str], needs: str = "nothing", submit: str = "", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.command, self.needs, self.submit = command, needs, submit
        self.home = "{{ var.value.prebatch_home }}"
        self.python = "{{ var.value.get('prebatch_python', var.value.prebatch_home ~ '/.venv/bin/python') }}"
        self.options = f"{{{{ var.value.get('prebatch_{self.task_id}_options', '') }}}}"
        self._process: SubprocessHook | None = None

    def execute(self, context: Context) -> None:  # noqa: ARG002 - what Airflow calls
        """Raises what Airflow tries again, or what it does not, by the command's exit code."""
        if not self.needs:
            raise AirflowSkipException("there is nothing to compare with, or a later day serves already")
        module, *arguments = (word for word in self.command if word)
        start = [self.python, "-m", module]
        if self.submit:
            start = [*shlex.split(self.submit), str(Path(self.home, *module.split(".")).with_suffix(".py"))]
        words = [*start, *arguments, *shlex.split(self.options)]
        self._process = SubprocessHook()
        code = self._process.run_command(words, env=self._environment(), cwd=self.home).exit_code
        if code in FINAL:
            raise AirflowFailException(f"exit code {code}: {FINAL[code]}; not tried again")
        if code:
            raise AirflowException(f"exit code {code}: {AGAIN.get(code, 'ended from outside')}")

    def on_kill(self) -> None:
        """Commands leave things as they were when they are told to end."""
        if self._process is not None:
            self._process.send_sigterm()

    def _environment(self) -> dict[str, str]:
        """Without Airflow's own settings, its database's password among them, and without its Python's."""
        own = ("AIRFLOW", "_AIRFLOW", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return kept | {"PATH": f"{Path(self.python).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"}


DATASETS, MODELS = "{{ var.value.prebatch_datasets }}", "{{ var.value.prebatch_models }}"
DATASET, MODEL = f"{DATASETS}/dt={{{{ ds }}}}", f"{MODELS}/dt={{{{ ds }}}}"
BASELINE = f"{MODELS}/baseline/dt={{{{ ds }}}}"
WARM = "var.value.get('prebatch_warm_start', 'yes') == 'yes'"

with DAG(
    dag_id="prebatch_daily",
    description="A day's clicks become a dataset, a model, and what serves",
    doc_md=__doc__,
    # A day is made two hours after its end, and {{ ds }} is that day: with a plain cron text Airflow 3 would call the
    # run by the day on which it starts. Clicks that come later still are the watermark's business.
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=dt.datetime(1990, 1, 1, tzinfo=dt.UTC),  # any day can be backfilled,
    catchup=False,  # and none is by itself
    max_active_runs=1,  # a day starts from the model of one before
    user_defined_macros={"earlier_day": earlier_day, "may_serve": may_serve, "serving": serving},
    default_args={
        "retries": 3,
        "retry_delay": dt.timedelta(minutes=5),
        "retry_exponential_backoff": 2,
        "max_retry_delay": dt.timedelta(hours=1),
        "execution_timeout": dt.timedelta(hours=12),
        "trigger_rule": "none_failed",  # a comparison that was skipped holds nobody up
    },
    tags=["prebatch"],
) as dag:
    prebatch = ProjectCommand(
        task_id="prebatch",
        command=[
            "pipelines.prebatch", "--config", "{{ var.value.prebatch_config }}", "--output", DATASETS,
            "--date", "{{ ds }}", "--overwrite",
        ],
        submit="{{ var.value.get('prebatch_submit', '') }}",
    )  # fmt: skip
    # A verdict is the same however often it is asked for: no retries. Clear the task to ask once more.
    audit = ProjectCommand(task_id="audit", command=["pipelines.audit", DATASET], retries=0)
    drift = ProjectCommand(
        task_id="drift",
        needs="{{ earlier_day(ds) }}",
        command=["pipelines.inspect", f"{DATASETS}/{{{{ earlier_day(ds) }}}}", DATASET],
        retries=0,
    )
    train = ProjectCommand(
        task_id="train",
        command=[
            "trainer", "train", "--data", DATASET, "--output", MODEL,
            f"{{% if {WARM} and earlier_day(ds) %}}--warm-start={MODELS}/{{{{ earlier_day(ds) }}}}{{% endif %}}",
        ],
    )  # fmt: skip
    evaluate = ProjectCommand(task_id="evaluate", command=["trainer", "evaluate", "--model", MODEL, "--data", DATASET])
    # The model that serves, on this day's clicks: figures that two models made of different clicks differ by chance.
    evaluate_published = ProjectCommand(
        task_id="evaluate_published",
        needs="{{ serving() if may_serve(ds) }}",
        command=["trainer", "evaluate", "--model", "{{ serving() }}", "--data", DATASET, "--output", BASELINE],
    )
    embed = ProjectCommand(
        task_id="embed",
        command=[
            "pipelines.embed", "--model", MODEL, "--data", DATASET, "--output", f"{MODEL}/embeddings", "--overwrite",
        ],
    )  # fmt: skip
    index = ProjectCommand(
        task_id="index", command=["trainer", "index", "--model", MODEL, "--output", f"{MODEL}/index"]
    )
    publish = ProjectCommand(
        task_id="publish",
        needs="{{ may_serve(ds) }}",
        command=[
            "trainer", "publish", "--model", MODEL, "--to", "{{ var.value.prebatch_published }}",
            f"{{% if serving() %}}--baseline={BASELINE}/metrics.json{{% endif %}}",
        ],
        retries=0,
        outlets=[PUBLISHED_MODEL],
    )  # fmt: skip
    chain(prebatch, audit, drift, train, evaluate, evaluate_published, embed, index, publish)
