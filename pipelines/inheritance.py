"""What a dataset goes on from (`inherit: previous | FOLDER`): an earlier one, whose indices all stay as they are.

    item_index     items keep theirs; new ones follow by falling training clicks, ties by key
    vocabularies   values keep their lines; new ones follow by falling training clicks, as far as max_size allows
    boundaries     of quantiles stay, as another boundary would give another meaning to an index
    gone           an item that has left the item table keeps its index, its row in items/ (as of the last day that had
                   it) and its place in the id's vocabulary. It has no training clicks, as clicks on it are rejected
                   (unknown_item), is never drawn, and is not ranked. If it comes back it has its index again.

So whatever learned of yesterday's indices, an embedding table first of all, can go on with today's. The dataset is a
function of its inputs and of what it inherits from: the manifest says what that was (`statistics.inherited`).
Costs a reading of the earlier items/ on the driver, about 25 us an item, and 100 for items that are gone.
"""

import datetime as dt
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import available, differences, encoding, readable, words
from pipelines.config import Config
from schemas import storage, wire
from schemas.errors import ConfigurationError, ProjectError
from schemas.files import local_path
from schemas.manifest import MANIFEST, Dataset
from schemas.record import Field

Ints = npt.NDArray[np.int64]

PREVIOUS = "previous"
_FOLDER = "dt="


def found(config: Config) -> Dataset | None:
    """The dataset to inherit from; None where a job inherits from none, or is for the first day there is.

    Raises:
      ConfigurationError: there is no dataset where one is named, or its features are others.
    """
    if config.inherit is None:
        return None
    for option, place in (("output.path", config.output.path), ("inherit", config.inherit)):
        if storage.is_remote(place):
            raise ConfigurationError(
                f"{option}: {place} is on an object store; indices go on from datasets on a disk alone: no inherit"
            )
    uri: str | Path | None = config.inherit
    if config.inherit == PREVIOUS:
        uri = None if config.date is None else previous_day(local_path(config.output.path).parent, config.date)
    if uri is None:
        return None
    try:
        dataset = Dataset.open(uri)
        there = _described(differences.resolved(dataset.manifest.config))
    except ProjectError as error:
        raise ConfigurationError(f"inherit: {config.inherit}: {error}") from error
    if dataset.root.absolute() == local_path(config.output.path).absolute():
        raise ConfigurationError(f"inherit: {config.inherit} is the output itself; name an earlier dataset")
    different = list(differences.differences(there, _described(config.model_dump(mode="json", exclude_none=True))))
    if different:
        raise ConfigurationError(
            f"inherit: indices cannot go on from {dataset.root}, which was made by another job file: "
            f"{'; '.join(different)}; set it back, or start afresh without inherit"
        )
    return dataset


def previous_day(folder: Path, date: dt.date) -> Path | None:
    """The latest finished dataset of a day before this one in a folder of days; None where there is none."""
    for day in sorted(_days(folder), reverse=True):
        path = folder / f"{_FOLDER}{day:%Y-%m-%d}"
        if day < date and (path / MANIFEST).exists():
            return path
    return None


def _days(folder: Path) -> Iterator[dt.date]:
    if folder.is_dir():
        for path in folder.glob(f"{_FOLDER}*"):
            try:
                yield dt.date.fromisoformat(path.name.removeprefix(_FOLDER))
            except ValueError:  # somebody else's folder
                continue


def _described(document: dict[str, Any]) -> dict[str, Any]:
    """What gives indices their meaning."""
    return {"features": document["features"], "items": {"key": document["items"]["key"]}}


@dataclass(frozen=True)
class Inherited:
    """An earlier dataset's indices. keys: [items] item ids as text, by item_index. vocabularies, boundaries: by
    feature.
    """

    dataset: Dataset
    keys: pa.LargeStringArray
    vocabularies: dict[str, list[str]]
    boundaries: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, config: Config) -> "Inherited | None":
        """What a job inherits; None where that is nothing."""
        dataset = found(config)
        if dataset is None:
            return None
        record = dataset.manifest.record
        fields = (*record.user, *record.item)
        return cls(
            dataset,
            pa.array(readable.item_keys(dataset), pa.large_string()),
            {field.name: dataset.vocabulary(field.name) for field in fields if field.encode == "vocabulary"},
            {field.name: field.boundaries or () for field in fields if field.encode == "buckets"},
        )

    def __len__(self) -> int:
        return len(self.keys)

    def indices(self, keys: pa.Array) -> Ints:
        """[n] item_index of each item by its id, -1 for new ones."""
        index = pc.index_in(keys.cast(pa.large_string()), value_set=self.keys)
        return np.asarray(pc.fill_null(index, -1).to_numpy(zero_copy_only=False), np.int64)

    def rows(self, gone: Ints, fields: tuple[Field, ...], schema: pa.Schema) -> pa.Table:
        """Rows of a catalogue (columns of `schema`, and `gone`) for items that are gone, as they were stored."""
        stored = readable.items(self.dataset, set(gone.tolist()))
        items = [stored[index] for index in gone.tolist()]
        columns: dict[str, Any] = {
            "key": self.keys.take(pa.array(gone)),
            "title": pa.array([item.title for item in items], pa.large_string()),
            "count": pa.array(np.zeros(len(gone), np.int64)),
            **{name: pa.array(np.full(len(gone), limit)) for name, limit in available.LIMITS.items()},
        }
        for field in fields:
            values = [item.features[field.name] for item in items]
            together = np.concatenate(values)
            if field.width is None:
                owners = np.repeat(np.arange(len(items)), [len(value) for value in values])
                lists = encoding.list_fragments(together.astype(np.int64), owners, len(items))
                columns[field.name], columns[f"{field.name}.lengths"] = lists.values, lists.lengths
            elif field.dtype == "float32":
                columns[field.name] = wire.float_fragments(together, field.width)
            else:
                columns[field.name] = wire.int_fragments(together)
        chosen = [columns[name].cast(schema.field(name).type) for name in schema.names]
        return pa.table(chosen, schema=schema).append_column("gone", pa.array(np.ones(len(gone), bool)))

    def to_json(self, output: Path, gone: int) -> dict[str, Any]:
        """The manifest's `statistics.inherited` of a dataset in the folder `output`."""
        return {
            "path": Path(os.path.relpath(self.dataset.root.absolute(), output)).as_posix(),
            "content_digest": self.dataset.manifest.content_digest,
            "items": len(self),
            "gone": gone,
            "vocabulary": {name: len(values) for name, values in self.vocabularies.items()},
        }

    @property
    def told(self) -> str:
        """In words."""
        return f"going on from {self.dataset.root}: {words.counted(len(self), 'item')}"
