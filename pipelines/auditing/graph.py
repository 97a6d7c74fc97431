"""The Beam job: shards in, one tally out.

    shards of one set, held-out shards -> log of clicks -> what every user had (a side input)
    all shards                         -> records -> clicks -> checks -> tally        summed

Two passes over set 0, one over the others. A worker holds one batch of records at a time, and everybody's log once
(60 bytes a click of one set). Beam's direct runner executes it in this process.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.auditing import attributes, examples, excluded, histories, log_q, shapes
from pipelines.auditing.clicks import Clicks, Lists, clicks
from pipelines.auditing.declared import Declared
from pipelines.auditing.excluded import Excluded, Facts
from pipelines.auditing.findings import Findings
from pipelines.auditing.frames import ShardFile
from pipelines.auditing.items import Items
from pipelines.auditing.known import Known, Log
from pipelines.auditing.tally import Tally
from pipelines.direct_runner import beam_and_runner
from schemas.record import RecordSpec

CANDIDATES = 1 << 20
RECORDS = 1 << 12
HELD_OUT = ("validation", "test")
Logs = dict[str, Log]


@dataclass(frozen=True)
class Task:
    """One shard to read: its path in the manifest, and where it lies."""

    path: str
    file: str
    split: str
    epoch: int


@dataclass(frozen=True)
class Job:
    """What the driver knows. expected: clicks of one set and of held-out splits together, None where that is unknown.
    share: of all hashes of negatives, the part that is kept.
    """

    spec: RecordSpec
    items: Items
    declared: Declared
    sets: int
    split: str
    user_feature: str | None
    expected: int | None
    share: float


def run(tasks: list[Task], job: Job) -> Tally:
    """What all shards together tell."""
    beam, direct = beam_and_runner()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tally.npz"
        with beam.Pipeline(runner=direct.FnApiRunner()) as pipeline:
            once = [task for task in tasks if task.split != "train" or task.epoch == 0]
            logs = (
                pipeline
                | "shards of one set" >> beam.Create(once)
                | "log" >> beam.Map(logged, job)
                | "everybody" >> beam.CombineGlobally(joined)
            )
            facts = logs | "what they had" >> beam.Map(facts_of, job)
            held_out = logs | "held-out clicks" >> beam.Map(held_out_tally, job)
            read = (
                pipeline
                | "all shards" >> beam.Create(tasks)
                | beam.Reshuffle()
                | "check" >> beam.Map(audited, job, beam.pvalue.AsSingleton(facts))
            )
            both = (read, held_out) | beam.Flatten()
            total = both | "sum" >> beam.CombineGlobally(functools.partial(merged, job=job))
            total | "store" >> beam.Map(stored, str(path))
        return Tally.load(path)


def stored(tally: Tally, path: str) -> None:
    """Leaves the result where the driver finds it."""
    tally.store(Path(path))


def merged(tallies: Iterable[Tally], job: Job) -> Tally:
    """Their sum."""
    total = Tally.empty(len(job.items), job.sets)
    for tally in tallies:
        total.merge(tally)
    return total


def joined(logs: Iterable[Logs]) -> Logs:
    """All clicks by split."""
    parts = list(logs)
    return {split: Log.joined([part[split] for part in parts if split in part]) for split in ("train", *HELD_OUT)}


def logged(task: Task, job: Job) -> Logs:
    """Who clicked what and when, in one shard."""
    logs = [Log(batch.user, batch.time, batch.positive) for batch in _batches(task, job, Findings(), [])]
    return {task.split: Log.joined(logs)}


def facts_of(logs: Logs, job: Job) -> Facts:
    """What each check may know."""
    everything = Log.joined(list(logs.values()))
    complete = job.expected is not None and len(everything.time) == job.expected
    others = sorted(job.declared.levels - {"positive", "history", "user"})
    reasons = [f"exclude: {level}" for level in others]
    if job.declared.history and not complete:
        reasons.append(histories.INCOMPLETE)
    if job.declared.availability:
        reasons.append(excluded.AVAILABILITY)
    rank, ties = job.items.rank, job.spec.ties
    return Facts(
        job.items, job.declared, Known(logs["train"], rank, ties), Known(everything, rank, ties), complete,
        tuple(reasons), ties,
    )  # fmt: skip


def held_out_tally(logs: Logs, job: Job) -> Tally:
    """The check of the split."""
    tally = Tally.empty(len(job.items), job.sets)
    surplus = job.expected is None or sum(len(log.time) for log in logs.values()) > job.expected
    histories.held_out(logs, job.split, surplus, tally.findings)
    return tally


def audited(task: Task, job: Job, facts: Facts) -> Tally:
    """Every check of one shard."""
    tally = Tally.empty(len(job.items), job.sets)
    findings, size = tally.findings, [0, 0, 0, 0]
    for batch in _batches(task, job, findings, size):
        attributes.check(batch, job.items, task.path, findings)
        histories.check(batch, facts, task.path, findings)
        if task.split != "train":
            continue
        positives(batch, task.path, findings)
        known = Excluded(batch, facts)
        excluded.check(known, task.path, findings)
        allowed = log_q.check(known, task.path, findings)
        tally.count(known, allowed, task.path, task.epoch, job.share)
    tally.shards[task.path] = (size[0], size[1], size[2], size[3])
    return tally


def positives(batch: Clicks, shard: str, findings: Findings) -> None:
    """A positive is never masked."""
    findings.looked("positives", len(batch))
    if batch.positive_masked is not None:
        rows = np.flatnonzero(batch.positive_masked)
        texts = (f"{batch.where(shard, row)}: its positive is masked" for row in rows[:20])
        findings.add("positives", texts, len(rows))


def _batches(task: Task, job: Job, findings: Findings, size: list[int]) -> Iterator[Clicks]:
    """Clicks of a shard, some records at a time; `size` becomes its bytes, CRC-32C, records and clicks."""
    held_out, file = task.split != "train", ShardFile(task.file)
    columns = shapes.columns_of(job.spec, held_out)
    each = 1 if held_out else (1 + job.spec.negatives) * job.spec.clicks
    records: list[shapes.Record] = []
    numbers: list[int] = []
    found = whole = 0
    for where, number, record in examples.of_frames(file.frames(), task.path, findings):
        whole += 1
        if record is None:
            continue
        found += len(record.get("click.time", ()))
        findings.looked("format")
        complaint = shapes.problem(record, columns, job.spec, held_out, len(job.items))
        if complaint:
            findings.add("format", f"{where}: {complaint}")
            continue
        records.append(record)
        numbers.append(number)
        if len(records) >= RECORDS or len(records) * each >= CANDIDATES:
            yield _resolved(clicks(records, numbers, job.spec, held_out, job.user_feature), job.items)
            records, numbers = [], []
    if records:
        yield _resolved(clicks(records, numbers, job.spec, held_out, job.user_feature), job.items)
    size[:] = [file.bytes, file.crc32c, whole, found]


def _resolved(batch: Clicks, items: Items) -> Clicks:
    """Histories of rows, which have no index of their own, by the feature that tells items apart."""
    history, table = batch.history, batch.history_table
    if history is None or table is None or not (history.values < 0).any():
        return batch
    return dataclasses.replace(batch, history=Lists(items.resolved(table), history.offsets))
