"""Plan before, manifest after: what the driver decides for the tasks, and what it makes of their answers."""

import datetime as dt
import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import mapped_files, parts, tallies
from pipelines.catalogues import BuiltCatalogue
from pipelines.config import Config, record_spec
from pipelines.duration import in_unit
from pipelines.inheritance import Inherited
from pipelines.parts import Ledger
from pipelines.plan import Plan
from pipelines.publication import Publication
from pipelines.rejects import Used
from pipelines.sink import DIGEST_ALGORITHM, DIGEST_MODULUS
from pipelines.split import SPLITS, constant
from pipelines.training_examples import Examples
from schemas import redaction
from schemas.manifest import Manifest, Shard, Split, StoredFile, escape
from schemas.metadata import schema_pbtxt
from schemas.record import Field

_PACKAGES = ("pyspark", "pyarrow", "numpy", "google-crc32c", "pydantic", "xxhash")


def plan_for(
    config: Config, publication: Publication, counted: BuiltCatalogue, user_fields: tuple[Field, ...],
    user_vocabularies: dict[str, list[str]], time_unit: str, first_epoch: int = 0,
) -> Plan:  # fmt: skip
    """The plan of a job, with the files that its tasks share already in the work folder.

    first_epoch: sets of negatives that stand in the dataset already.
    """
    path, partitions = counted.store(publication.work)
    vocabulary_path = ""
    if user_vocabularies:
        vocabulary_path = str(publication.work / "user_vocabularies.arrow")
        table = pa.table(
            {name: pa.array([values], pa.large_list(pa.large_string())) for name, values in user_vocabularies.items()}
        )
        mapped_files.store(Path(vocabulary_path), table)
    return Plan(
        root=str(publication.folder),
        run=publication.run,
        catalogue=str(path),
        partitions=partitions,
        item_fields=counted.fields,
        record=record_spec(config, user_fields, counted.fields, counted.figures.gone > 0),
        ties=config.history.ties,
        exclude=config.negatives.levels,
        shortage=config.negatives.shortage,
        epochs=config.negatives.epochs,
        seed=config.negatives.seed,
        shards=config.output.shards,
        compression=config.output.compression,
        first_epoch=first_epoch,
        examples_per_user=config.examples.per_user or 0,
        unique=config.unique,
        held_out=config.split.kind != "none",
        user_vocabularies=vocabulary_path,
        session_gap=0 if config.clicks.session_gap is None else in_unit(config.clicks.session_gap, time_unit),
        dependent=parts.dependent(config),
        in_batch=config.negatives.proposal.in_batch_share,
        constant=constant(config),
    )


def stored_vocabularies(publication: Publication, vocabularies: dict[str, list[str]]) -> dict[str, StoredFile]:
    """vocabulary/<feature>.txt of each, staged until the commit."""
    files = {}
    for name, values in vocabularies.items():
        text = "".join(f"{escape(value)}\n" for value in values)
        files[name] = publication.stage(f"vocabulary/{name}.txt", text.encode())
    return files


def assembled(
    config: Config, plan: Plan, counted: BuiltCatalogue, examples: Examples, written: pa.Table, used: Used,
    items: Split, items_digest: int, vocabularies: dict[str, StoredFile], publication: Publication,
    before: Inherited | None = None,
) -> Manifest:  # fmt: skip
    """The manifest of what the tasks say they wrote."""
    rows = written.to_pylist()
    splits = {}
    digests = {**_digests(rows), "items": items_digest}
    for number, name in enumerate(SPLITS):
        shards = [
            Shard(row["path"], row["bytes"], row["crc32c"], row["records"], row["clicks"], row["epoch"])
            for row in rows if row["split"] == number and row["path"]
        ]  # fmt: skip
        splits[name] = Split.of(shards, plan.epochs if number == 0 else 1)
    draws = _draws(plan, counted, rows)
    schema = publication.stage("schema.pbtxt", schema_pbtxt(plan.record).encode())
    return Manifest(
        record=plan.record,
        splits=splits,
        items=items,
        vocabulary=vocabularies,
        files={"schema": schema, **{f"rejected-{number}": file for number, file in enumerate(used.files)}},
        config=redaction.document(config.model_dump(mode="json", exclude_none=True)),
        seed=plan.seed,
        content_digest=content_digest(digests, vocabularies),
        digest_algorithm=DIGEST_ALGORITHM,
        time_unit=used.time_unit,
        proposal=parts.proposal_report(
            config, draws.ledger, draws.observed, draws.expected, sum(row["without_draws"] for row in rows)
        ),
        rejected=used.rejected,
        rows=used.rows,
        unmatched_items=used.unmatched_items,
        statistics={
            **_statistics(plan, counted, draws, splits, rows, used, before),
            "examples": examples.to_json(),
            "inputs": used.hashes,
            "digests": {name: f"{digest:x}" for name, digest in digests.items()},
        },
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        run=plan.run,
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def content_digest(digests: Mapping[str, int], vocabularies: Mapping[str, StoredFile]) -> str:
    """SHA-256 over the digests of each split, the items and the vocabularies; shards and their order do not matter."""
    parts = [DIGEST_ALGORITHM, *(f"{name} {digests[name]:x}" for name in (*SPLITS, "items"))]
    parts += [f"vocabulary {name} {file.bytes} {file.crc32c}" for name, file in sorted(vocabularies.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digests(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Sums of the records' hashes by split, modulo DIGEST_MODULUS."""
    totals = dict.fromkeys(SPLITS, 0)
    for row in rows:
        name = SPLITS[row["split"]]
        totals[name] = (totals[name] + int(row["digest"], 16)) % DIGEST_MODULUS
    return totals


def _summed(rows: list[dict[str, Any]], name: str, dtype: Any, split: int | None = None) -> npt.NDArray[Any]:
    arrays = [np.frombuffer(row[name], dtype) for row in rows if row[name] and (split is None or row["split"] == split)]
    return np.sum(arrays, axis=0) if arrays else np.zeros(0, dtype)


@dataclass(frozen=True)
class _Draws:
    """Negatives drawn, and how many were to be expected after exclusion, in the places that the ledger says."""

    ledger: Ledger
    observed: npt.NDArray[np.int64]
    expected: npt.NDArray[np.float64]

    @property
    def wide(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """[cells] draws of the catalogue-wide strategies alone: (observed, expected)."""
        cells = len(self.ledger.cells)
        several = len(self.ledger.slots) > 1
        return self.observed[cells : 2 * cells] if several else self.observed, self.expected[:cells]


def _draws(plan: Plan, counted: BuiltCatalogue, rows: list[dict[str, Any]]) -> _Draws:
    ledger = Ledger.of(plan, counted)
    observed = _summed(rows, "negatives", np.int64, split=0)
    expected = _summed(rows, "expected", np.float64)
    if plan.record.per == "block":  # a pool is drawn without exclusion
        expected[: len(ledger.cells)] = ledger.cells.probability * observed.sum()
    return _Draws(ledger, observed, expected)


def _statistics(
    plan: Plan, counted: BuiltCatalogue, draws: _Draws, splits: dict[str, Split], rows: list[dict[str, Any]],
    used: Used, before: Inherited | None,
) -> dict[str, Any]:  # fmt: skip
    cells = draws.ledger.cells
    figures = counted.figures
    edges, train = figures.decile_edges, splits["train"]
    return {
        "items": figures.items,
        "catalogue": {"kind": "partitioned" if plan.partitions else "mapped", "partitions": plan.partitions},
        "items_clicked": figures.clicked,
        "items_counted": figures.counted,
        "unmatched_users": used.unmatched_users,
        **({"given": used.given} if used.given else {}),
        **({} if before is None else {"inherited": before.to_json(Path(plan.root), figures.gone)}),
        "bytes_per_click": round(train.bytes / train.clicks, 2) if train.clicks else 0.0,
        "decile_items": [int(edges[i + 1] - edges[i]) for i in range(10)],
        "positives_by_decile": tallies.by_decile(_summed(rows, "positives", np.int64, 0), cells, edges),
        "negatives_by_decile": tallies.by_decile(draws.observed[: len(cells)], cells, edges),
        "expected_by_decile": tallies.by_decile(cells.probability, cells, edges),
        "draws_by_cell": _curve(draws),
        "history_lengths": tallies.history_report(_summed(rows, "histories", np.int64, 0)),
    }


def _curve(draws: _Draws, points: int = 60) -> dict[str, Any]:
    """Declared and observed draws over the popularity rank, in at most `points` runs of cells, for a plot; of the
    catalogue-wide strategies alone.
    """
    cells, (observed, expected) = draws.ledger.cells, draws.wide
    edges = np.unique(np.geomspace(1, len(cells) + 1, points).astype(np.int64)) - 1
    sizes = np.diff(cells.first[edges])
    return {
        "rank": [int(cells.first[edge]) for edge in edges[:-1]],
        "items": [int(size) for size in sizes],
        "observed": [int(value) for value in np.add.reduceat(observed, edges[:-1])],
        "expected": [round(float(value), 3) for value in np.add.reduceat(expected, edges[:-1])],
    }
