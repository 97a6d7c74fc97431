"""Runs that end badly leave the earlier dataset alone; the next ones meet faults too, and end as if nothing had been.

Each fixture interrupts a run and looks at what it leaves behind. Each test is the next run in that folder: it cleans
up, one of its tasks or machines fails, and its records are those of an undisturbed run.
"""

import os
import signal
import subprocess

import pytest

from schemas.manifest import MANIFEST, Dataset
from tests.cluster import intact
from tests.cluster.processes import ancestor, command, kill, until
from tests.cluster.standalone import ONE_EXECUTOR

pytestmark = pytest.mark.cluster

HALF_A_SHARD = {"at": "shard", "does": "wait"}


@pytest.fixture
def document(job, output):
    return job(output)


@pytest.fixture
def submit(cluster, document):
    """Starts a run that replaces what is there."""

    def run(**options):
        return cluster.submit(document, "--overwrite", **options)

    return run


@pytest.fixture
def alone(cluster, output, earlier):
    """Checks that the earlier dataset stands there as it was and can be read, once nothing is at work any more."""
    before = (output / MANIFEST).read_bytes()

    def check():
        cluster.quiet()
        assert (output / MANIFEST).read_bytes() == before
        assert intact.readable(output) == earlier.manifest.content_digest

    return check


@pytest.fixture
def ends_well(output, expected):
    """Checks that a run succeeds with the records expected, that an audit finds nothing, and that nothing is left."""

    def check(run):
        run.succeeded()
        assert intact.audited(output) == expected

    return check


def half_written(output):
    """Bytes of train shards that the manifest does not name."""
    return sum((output / path).stat().st_size for path in intact.strays(output) if path.startswith("train/"))


@pytest.fixture
def terminated(submit, output, alone):
    """SIGTERM of spark-submit while a shard is written."""
    run = submit(fault=HALF_A_SHARD, conf=ONE_EXECUTOR)
    run.met()
    assert half_written(output)
    run.process.send_signal(signal.SIGTERM)
    assert run.ended() != 0
    alone()


@pytest.fixture
def killed(submit, output, alone):
    """SIGKILL of the driver, its JVM and its Python, while a shard is written."""
    run = submit(fault=HALF_A_SHARD, conf=ONE_EXECUTOR)
    run.met()
    os.killpg(run.process.pid, signal.SIGKILL)
    assert run.ended() == -signal.SIGKILL
    alone()
    assert half_written(output)
    assert [path for path in intact.strays(output) if path.endswith(".alive")]


@pytest.fixture
def unpublished(submit, output, alone):
    """SIGKILL of the driver between the last shard and the manifest."""
    run = submit(driver_fault={"at": "commit", "does": "wait"}, conf=ONE_EXECUTOR)
    assert "prebatch.py" in command(run.met())
    os.killpg(run.process.pid, signal.SIGKILL)
    assert run.ended() == -signal.SIGKILL
    alone()
    left = [path.partition("/")[0] for path in intact.strays(output) if path.endswith(".tfrecord")]
    assert {name: left.count(name) for name in left} == {"train": 6, "validation": 3, "test": 3, "items": 1}


@pytest.fixture
def disk(tmp_path):
    """A function that sizes a small disk in place of the output's folder; None where only root may mount one."""
    folder = tmp_path / "out"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False, capture_output=True, timeout=20
    )
    if mounted.returncode:
        yield None
        return
    yield lambda size: subprocess.run(
        ["mount", "-o", f"remount,size={size}", str(folder)], check=True, capture_output=True, timeout=20
    )
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


@pytest.fixture
def full(disk, submit, output, earlier, alone):
    """A disk with room for the earlier dataset and half of another; a limit to files where none can be mounted."""
    size = sum(file.bytes for file in earlier.manifest.stored_files())
    if disk:
        disk(size * 3 // 2)
    limit = None if disk else {"at": "shard", "does": "limit", "bytes": 1 << 18}
    run = submit(fault=limit, conf=ONE_EXECUTOR)
    assert run.ended() == 1
    (line,) = run.errors
    assert line.startswith(f"error: writing {output}/train/part-"), line
    assert f" failed: {'No space left on device' if disk else 'File too large'}; make room there" in line
    assert intact.strays(output) == []
    alone()
    if disk:
        disk(64 << 20)


def test_kills_of_a_python_worker_an_executor_and_a_worker_daemon(terminated, cluster, submit, output, ends_well):
    run = submit(fault=HALF_A_SHARD | {"times": 3})
    kill(run.met(0))
    assert half_written(output)
    kill(ancestor(run.met(1), "CoarseGrainedExecutorBackend"))
    executor = ancestor(run.met(2), "CoarseGrainedExecutorBackend")
    daemon = ancestor(executor, "deploy.worker.Worker")
    (host,) = [host for host in cluster.hosts if f"--host {host} " in command(daemon)]
    kill(daemon)
    try:
        until("the end of the executor whose worker was killed", lambda: not command(executor))
        ends_well(run)
        assert len(run.events("SparkListenerExecutorRemoved")) >= 2
        assert [event for event in run.events("SparkListenerTaskEnd") if event["Task Info"]["Failed"]]
    finally:
        cluster.start_worker(host)


def test_a_speculative_copy_overtakes_a_task_that_hangs(killed, submit, ends_well):
    """The task never goes on; its copy on the other host writes the shard."""
    settings = {
        "spark.speculation": "true",
        "spark.speculation.interval": "100ms",
        "spark.speculation.quantile": "0.5",
        "spark.speculation.multiplier": "1.1",
        "spark.speculation.minTaskRuntime": "1s",
    }
    run = submit(fault=HALF_A_SHARD, conf=settings)
    hangs = run.met()
    ends_well(run)
    assert not command(hangs)
    starts = [event["Task Info"] | {"stage": event["Stage ID"]} for event in run.events("SparkListenerTaskStart")]
    # The job may be over before the executor has told that the task which hung is dead: its end is there or not.
    dead = {end["Task Info"]["Task ID"]: end["Task Info"]["Killed"] for end in run.events("SparkListenerTaskEnd")}
    overtaken = [
        (copy["Host"], first["Host"])
        for copy in starts if copy["Speculative"] and dead.get(copy["Task ID"]) is False
        for first in starts
        if (first["stage"], first["Index"]) == (copy["stage"], copy["Index"]) and first is not copy
        and dead.get(first["Task ID"], True)
    ]  # fmt: skip
    assert overtaken
    assert all(copy != first for copy, first in overtaken)


def test_a_task_fails_twice_and_then_succeeds(unpublished, submit, ends_well):
    run = submit(fault={"at": "shard", "does": "fail"})
    ends_well(run)
    failed = [event["Task Info"] for event in run.events("SparkListenerTaskEnd") if event["Task Info"]["Failed"]]
    assert [task["Attempt"] for task in failed] == [0, 1]
    assert len({task["Index"] for task in failed}) == 1
    assert all((run.folder / f"failed-{attempt}").exists() for attempt in (0, 1))


def test_a_zombie_writes_after_the_commit_and_of_two_runs_at_once_one_wins(full, cluster, submit, output, ends_well):
    """What the zombie writes is nobody's, and goes with a later run; of two such runs, the second harms nothing."""
    haunted = submit(fault={"at": "shard", "does": "zombie"}, conf=ONE_EXECUTOR)
    ends_well(haunted)
    cluster.quiet()
    digest = Dataset.open(output).manifest.content_digest
    haunted.go()
    shard = output / haunted.written()
    assert intact.strays(output) == [shard.relative_to(output).as_posix()]
    assert intact.readable(output) == digest
    os.utime(shard, (shard.stat().st_mtime - 301,) * 2)

    winner = submit(fault=HALF_A_SHARD, conf=ONE_EXECUTOR)
    winner.met()
    assert not shard.exists()
    there = {path: path.stat().st_mtime_ns for path in output.rglob("*.tfrecord")}
    loser = submit(conf=ONE_EXECUTOR)
    assert loser.ended() == 4
    assert [line.startswith(f"error: another run holds {output}") for line in loser.errors] == [True]
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.tfrecord")} == there
    winner.go()
    ends_well(winner)
