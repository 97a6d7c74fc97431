"""Run by Airflow's own Python: prints the DAG as Airflow sees it, or what a command's exit code makes of a task.

described.py dag           errors of the folder of DAGs, tasks and what they wait for, schedule, outlets
described.py quiet         what parsing the file does beside reading it: processes, connections, files written
described.py codes PYTHON  the exception that each exit code of the program PYTHON becomes
described.py day DATE      what DATE starts from, and whether it may serve; Variables come from the environment
"""

import json
import os
import runpy
import sys
import time
from collections.abc import Callable

FOLDER = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
FILE = f"{FOLDER}/prebatch_daily.py"


def dag():
    from airflow.dag_processing.dagbag import DagBag

    started = time.perf_counter()
    bag = DagBag(FOLDER)
    seconds = time.perf_counter() - started
    found = bag.dags["prebatch_daily"]
    return {
        "errors": bag.import_errors,
        "dags": sorted(bag.dags),
        "seconds": seconds,
        "schedule": [type(found.timetable).__name__, found.timetable.expression],
        "max_active_runs": found.max_active_runs,
        "catchup": found.catchup,
        "tasks": {
            task.task_id: {
                "after": sorted(task.upstream_task_ids),
                "retries": task.retries,
                "backoff": task.retry_exponential_backoff,
                "command": task.command,
                "outlets": [outlet.name for outlet in task.outlets],
            }
            for task in found.tasks
        },
    }


def quiet():
    import airflow.providers.standard.hooks.subprocess
    import airflow.sdk
    import airflow.sdk.exceptions

    # Names that airflow.sdk imports only once they are asked for.
    for name in ("DAG", "Asset", "BaseOperator", "Context", "CronDataIntervalTimetable", "Variable", "chain"):
        getattr(airflow.sdk, name)
    with airflow.sdk.DAG("other", schedule=None):
        airflow.sdk.BaseOperator(task_id="one")
    seen, watching = [], True

    def hook(event, arguments):
        if not watching:
            return
        started = event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
        written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if started or written or event in ("sqlite3.connect", "os.mkdir", "os.rename", "os.remove"):
            seen.append([event, repr(arguments)[:200]])

    sys.addaudithook(hook)
    runpy.run_path(FILE)
    watching = False
    return seen


def codes(python):
    module = runpy.run_path(FILE)
    told: dict[int, list[str] | None] = {}
    for code in (0, 1, 2, 3, 4, 143):
        task = module["ProjectCommand"](task_id=f"exits_{code}", command=[str(code)])
        task.home, task.python, task.options = ".", python, ""
        try:
            task.execute({})
            told[code] = None
        except Exception as error:  # noqa: BLE001 - which one it is, is what is asked
            told[code] = [kind.__name__ for kind in type(error).__mro__]
    return told


def day(date):
    module = runpy.run_path(FILE)
    return [module["earlier_day"](date), module["may_serve"](date), module["serving"]()]


if __name__ == "__main__":
    asked, *given = sys.argv[1:]
    answers: dict[str, Callable[..., object]] = {"dag": dag, "quiet": quiet, "codes": codes, "day": day}
    print(json.dumps(answers[asked](*given)))
