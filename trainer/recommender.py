"""What a model would show somebody, from its folder and an index alone: no dataset, no training code.

This is what a service does, small: raw values go into the exported user tower, its vector finds the nearest items, what
the person had is left out. One vector and one search a request; starting TensorFlow takes most of the time.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import raw
from schemas.errors import ConfigurationError, ProjectError
from schemas.model import USER_TOWER, USERS, Serving, version_folder
from schemas.record import Field
from trainer.ann import Floats
from trainer.index import Index, model_digest


@dataclass(frozen=True)
class Request:
    """Who asks. history: item ids, the oldest first; None for what the model carries of `user`. features: as text."""

    user: str | None = None
    features: dict[str, str] = field(default_factory=dict)
    history: Sequence[str] | None = None
    k: int = 10


@dataclass(frozen=True)
class Answer:
    """items: (score, item id, title), the best first. notes: what a person should know about it."""

    items: list[tuple[float, str, str]]
    notes: list[str]


@dataclass(frozen=True)
class _Person:
    """What goes into the tower, and what is left out of the answer. features: columns of one row, by name."""

    features: dict[str, pa.Array]
    history: list[str]
    seen: list[str]


class Recommender:
    """A model's user tower and an index of its items.

    Raises:
      ConfigurationError: one of them is missing, or they do not belong together.
    """

    def __init__(self, model: Path, index: Path) -> None:
        self.serving = Serving.read(model)
        self.index = Index(index)
        if self.index.description.get("model") != model_digest(model):
            raise ConfigurationError(
                f"--index {index}: was built of another model than {model}; build it anew with python -m trainer index"
            )
        self._model = model
        self._ids = self.index.items["item_id"]
        self._tower: Any = None

    def recommend(self, request: Request) -> Answer:
        """The k items nearest to a person, without those that they had."""
        notes: list[str] = []
        person = self._person(request, notes)
        vector = self.vector(person.features, self._known(person.history, notes))
        left_out = set(self._positions(person.seen) if self.serving.exclude_history else [])
        found = self.index.search(vector, request.k + len(left_out))
        kept = [(position, score) for position, score in found if position not in left_out][: request.k]
        if len(kept) < request.k:
            notes.append(f"{len(kept)} of {request.k} items: the index found no more that the user has not had")
        return Answer([(score, self._ids[i].as_py(), self._title(i)) for i, score in kept], notes)

    def vector(self, features: dict[str, pa.Array], history: list[int]) -> Floats:
        """The user tower's vector [dimension] for one person; history: positions in the index, the oldest first."""
        import tensorflow as tf

        if self._tower is None:
            loaded = tf.saved_model.load(str(version_folder(self._model / USER_TOWER)))
            self._tower = loaded, loaded.signatures["serving_default"]  # a signature alone keeps no variables alive
        signature = self._tower[1]
        values = {f.name: raw.inputs(f, features[f.name]) for f in self.serving.record.user}
        if self.serving.record.history:
            rows = self.index.items.take(pa.array(history, pa.int64()))[raw.FEATURES].combine_chunks()
            for f in self.serving.record.history_fields:
                values[f"history_{f.name}"] = raw.inputs(f, rows.field(f.name))[np.newaxis]
            values["history_lengths"] = np.array([len(history)])
        expected = signature.structured_input_signature[1]
        if expected.keys() != values.keys():
            differing = ", ".join(sorted(expected.keys() ^ values.keys()))
            raise ProjectError(
                f"{self._model / USER_TOWER}: serving.json and the tower differ in {differing}; train anew"
            )
        given = {name: tf.constant(value.tolist(), expected[name].dtype, value.shape) for name, value in values.items()}
        vector: Floats = signature(**given)["embedding"].numpy()[0]
        return vector

    def _person(self, request: Request, notes: list[str]) -> _Person:
        fields = {f.name: f for f in self.serving.record.user}
        unknown = sorted(request.features.keys() - fields.keys())
        if unknown:
            near = difflib.get_close_matches(unknown[0], fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(fields) or 'none'}"
            raise ConfigurationError(f"{unknown[0]}: the model has no such user feature; {hint}")
        features, history, seen = self._stored(request, notes)
        features |= {name: parsed(fields[name], text) for name, text in request.features.items()}
        missing = [name for name in fields if name not in features]
        if missing:
            notes.append(f"not given, so unknown to the tower: {', '.join(missing)}")
            features |= {name: pa.nulls(1, raw.column_type(fields[name])) for name in missing}
        if request.history is not None:
            history = seen = list(request.history)
        return _Person(features, history, seen)

    def _stored(self, request: Request, notes: list[str]) -> tuple[dict[str, pa.Array], list[str], list[str]]:
        """What the model carries of the user: features, history, seen; of others what follows from their id."""
        if request.user is None:
            return {}, [], []
        users = self._users()
        row = users.filter(pc.equal(users["user"], request.user)).slice(0, 1)
        if row.num_rows:
            features = row[raw.FEATURES].combine_chunks() if raw.FEATURES in row.column_names else None
            columns = {f.name: features.field(f.name) for f in self.serving.record.user} if features is not None else {}
            return columns, row["history"][0].as_py(), row["seen"][0].as_py()
        told = f"user {request.user} is not among the {users.num_rows:,} whose history the model carries"
        notes.append(told if request.history is not None else f"{told}: give --history")
        key = self.serving.user_key
        return ({} if key is None else {key: pa.array([request.user])}), [], []

    def _users(self) -> pa.Table:
        path = self._model / USERS
        return pq.read_table(path) if path.exists() else pa.table({"user": pa.array([], pa.string())})

    def _known(self, history: list[str], notes: list[str]) -> list[int]:
        positions = pc.index_in(pa.array(history, pa.string()), value_set=self._ids.combine_chunks()).to_pylist()
        unknown = [item for item, position in zip(history, positions, strict=True) if position is None]
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            notes.append(f"not in the index, left out of the history: {', '.join(unknown[:5])}{more}")
        return [position for position in positions if position is not None]

    def _positions(self, items: list[str]) -> list[int]:
        return self._known(items, [])

    def _title(self, position: int) -> str:
        return self.index.items["title"][position].as_py() or ""


def parsed(field: Field, text: str) -> pa.Array:
    """A feature's value as a person writes it, as a column of one row; an empty text is a missing value.

    Raises:
      ConfigurationError: no number where one is expected, or a vector of another length.
    """
    if not text:
        return pa.nulls(1, raw.column_type(field))
    if field.encode == "vocabulary":
        return pa.array([text if field.shape == "scalar" else text.split(",")], raw.column_type(field))
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigurationError(f"{field.name}={text}: expected a number ({error})") from error
    width = int(field.width or 1)
    if len(numbers) != width:
        raise ConfigurationError(f"{field.name}: expected {width} numbers, {len(numbers)} given")
    return pa.array(numbers if field.shape == "scalar" else [numbers], raw.column_type(field))


def items_of(texts: Sequence[str], ids: pa.ChunkedArray | None = None) -> list[str]:
    """Item ids of `--history` options, the oldest first: each is an id or several between commas.

    An option that is the id of an item as a whole is not taken apart, so that ids may hold commas.
    """
    whole = set() if ids is None else set(pc.filter(ids, pc.is_in(ids, pa.array(texts, pa.string()))).to_pylist())
    return [part.strip() for text in texts for part in ([text] if text in whole else text.split(",")) if part.strip()]


def table(answer: Answer) -> str:
    """An answer for a terminal: rank, score, item id, title."""
    rows = [
        (str(rank), f"{score:.4f}", _printable(item), _printable(title))
        for rank, (score, item, title) in enumerate(answer.items, 1)
    ]
    rows.insert(0, ("rank", "score", "item", "title"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{rank:>{widths[0]}}  {score:>{widths[1]}}  {item:<{widths[2]}}  {title}".rstrip()
        for rank, score, item, title in rows
    ]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Titles are data: nothing in them may move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
