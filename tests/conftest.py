"""One Spark for the whole run, small jobs, and their records read back without TensorFlow.

`make test` is two processes, of which one has all the tests that the Spark serves.

A job on small inputs takes seconds whatever its size, so datasets that several tests look at are session fixtures.
`clicks_of` reads records by the words of schemas/README.md, not by the code that wrote them, beyond the bytes of an
Example: whatever the layout, a click comes back as the same plain values.
"""

import functools
import gzip
import hashlib
import io
import itertools
import os
import sys
import threading
from contextlib import contextmanager
from math import erfc, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import codec, configuration, tfrecord

CLICKS = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("timestamp", pa.int64())])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Where a run is shared between processes, one gets all files with tests that the only Spark serves."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    @functools.cache
    def share(file):
        return "spark" if "mark.spark" in (config.rootpath / file).read_text(encoding="utf-8") else file

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid):
            return share(nodeid.partition("::")[0])

    return ByFile(config, log)


@pytest.fixture(scope="session")
def spark():
    """The only Spark session of a run: two cores, two shuffle partitions."""
    from pyspark import SparkConf, SparkContext

    from pipelines import class_archive
    from pipelines.java import ensure_java
    from pipelines.session import spark_session

    ensure_java()
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # workers import what the tests import
    conf = SparkConf().setMaster("local[2]").setAppName("tests").set("spark.ui.enabled", "false")
    conf.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
    conf.set("spark.driver.memory", "2g").set("spark.ui.showConsoleProgress", "false")
    conf.set("spark.python.sql.dataFrameDebugging.enabled", "false")
    conf.set("spark.python.daemon.module", "pipelines.preloaded")  # a worker forks in a tenth of the time
    conf.set("spark.driver.extraJavaOptions", class_archive.options())
    SparkContext.getOrCreate(conf)
    session = spark_session("tests")
    # A plan of a test is over before what was compiled for it has paid for itself.
    session.conf.set("spark.sql.codegen.wholeStage", "false")
    session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    session.conf.set("spark.sql.shuffle.partitions", "2")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def changed(spark):
    """`with changed({name: value}):` settings of the session, which come back."""

    @contextmanager
    def inside(settings):
        before = {name: spark.conf.get(name) for name in settings}
        try:
            for name, value in settings.items():
                spark.conf.set(name, value)
            yield
        finally:
            for name, value in before.items():
                spark.conf.set(name, value)

    return inside


@pytest.fixture(scope="session")
def s3_server():
    """The address of moto's S3 on loopback, in this process."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    # S3 decides on conditional writes one after the other; moto's threads look and write in two steps.
    one_at_a_time, put = threading.Lock(), S3Response.put_object

    def put_object(*arguments):
        with one_at_a_time:
            return put(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", put_object)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


class Bucket:
    """A new bucket, and what is in it as boto3 says, which is another client than the one under test."""

    def __init__(self, name):
        import boto3

        self.name, self.uri = name, f"s3://{name}"
        self.client = boto3.client("s3", region_name="us-east-1")
        self.client.create_bucket(Bucket=name)

    def names(self):
        """All keys but those that stand for folders."""
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", ())
        return sorted(entry["Key"] for entry in listed if not entry["Key"].endswith("/"))

    def uploads(self):
        """Keys of uploads in parts that have begun and not ended, which no listing of objects shows."""
        return [upload["Key"] for upload in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())]

    def read(self, key):
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def put(self, key, data):
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def upload(self, folder, prefix):
        """The URI of a copy of a folder's files."""
        for path in Path(folder).rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{self.uri}/{prefix}"


def s3_environment(address):
    """What a person would set to say where their bucket is and who they are."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.fixture
def bucket(s3_server, monkeypatch, request):
    """A bucket of the test's own."""
    for name, value in s3_environment(s3_server).items():
        monkeypatch.setenv(name, value)
    return Bucket(f"b-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]}")


@pytest.fixture(scope="session")
def ml_100k(tmp_path_factory):
    """The folder of MovieLens-100k as Parquet: the repository's own where `make train` has run, else a new one."""
    from pipelines.sources import ml_100k as source
    from pipelines.sources.wheel import default_cache

    folder = Path(__file__).parents[1] / "data" / "ml-100k"
    if not (folder / "source.json").exists():
        folder = tmp_path_factory.mktemp("sources") / "ml-100k"
        source.write(folder, default_cache())
    return folder


class Jobs:
    """Small inputs written, jobs run on them, datasets read back."""

    def __init__(self, root):
        self._root = root
        self._numbers = itertools.count()

    def folder(self):
        """A new folder."""
        folder = self._root / f"{next(self._numbers):03d}"
        folder.mkdir()
        return folder

    def inputs(self, clicks, items, users=None):
        """Paths by name of tables written as Parquet; a list of (user, item, time) will do for clicks."""
        folder = self.folder()
        if isinstance(clicks, list):
            clicks = pa.table([list(column) for column in zip(*clicks, strict=True)], schema=CLICKS)
        tables = {"clicks": clicks, "items": items} | ({} if users is None else {"users": users})
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet")
        return {name: str(folder / f"{name}.parquet") for name in tables}

    def document(self, paths, **sections):
        """A job file: the smallest one for these inputs, sections replaced or, where they are mappings, extended."""
        document = {
            "clicks": {"path": paths["clicks"], "user": "user_id", "item": "item_id", "time": "timestamp"},
            "items": {"path": paths["items"], "key": "item_id"},
            "features": {"user": {"user_id": {"encode": "vocabulary"}}, "item": {"item_id": {"encode": "vocabulary"}}},
            "history": {"features": ["item_id"], "length": 5},
            "negatives": {"proposal": {"uniform": {}}, "count": 3, "seed": 7},
            "layout": {"kind": "row"},
            "output": {"path": str(self.folder() / "out"), "shards": 2},
        }
        if "users" in paths:
            document["users"] = {"path": paths["users"], "key": "user_id"}
        for name, section in sections.items():
            extended = isinstance(section, dict) and name not in ("layout", "split", "features")
            document[name] = {**document.get(name, {}), **section} if extended else section
        return document

    def run(self, spark, document, overwrite=False):
        """The dataset that a job file makes."""
        from pipelines import job
        from pipelines.config import Config
        from pipelines.progress import Progress

        config = configuration.validate(Config, document, "test")
        return job.run(spark, config, overwrite, Progress(io.StringIO(), live=False))


@pytest.fixture(scope="session")
def jobs(tmp_path_factory):
    return Jobs(tmp_path_factory.mktemp("jobs"))


def raw_records(dataset, split):
    """(epoch, bytes) of every record of a split, or of `items`; each shard checked against the manifest."""
    manifest = dataset.manifest
    for shard in (manifest.items if split == "items" else manifest.splits[split]).shards:
        path = dataset.verify(shard)
        data = path.read_bytes()
        stream = io.BytesIO(gzip.decompress(data) if path.suffix == ".gz" else data)
        for record in tfrecord.read_frames(stream, str(path)):
            yield shard.epoch, record


def entities(values, width, lengths=None):
    """Values of one key as a list with an entry an entity: a number, a tuple for vectors and lists."""
    values = values.tolist()
    if lengths is not None:
        ends = np.cumsum(lengths).tolist()
        return [tuple(values[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    if width == 1:
        return values
    return [tuple(values[begin : begin + width]) for begin in range(0, len(values), width)]


def clicks_of(dataset, split="train"):
    """Every click of a split as plain values, the same for all layouts.

    Returns:
      One dict a click: epoch, time, weight, user.<f>, history.<f> (oldest first), candidates: dicts with index,
      log_q, mask and <f>, the positive first; in held-out clicks also user.key, history.index, exclude.index.
    """
    spec = dataset.manifest.record
    found = []
    for number, (epoch, data) in enumerate(raw_records(dataset, split)):
        record: dict[str, Any] = dict(codec.decode(data))
        layout = spec.layout if split == "train" else "row"
        block = layout != "row"
        count = len(record["click.time"])
        assert block or count == 1

        def values(side, field, record=record, block=block):
            key = f"{side}.{field.name}"
            if field.shape == "list" and side == "user" and not block:
                return [tuple(record[key].tolist())]
            lengths = record[f"{key}.lengths"] if field.shape == "list" else None
            return entities(record[key], field.width, lengths)

        users = {f"user.{field.name}": values("user", field) for field in spec.user}
        window = np.arange(count)
        if layout == "sequence":
            assert record["sequence.lengths"].sum() == count
            window = np.repeat(np.arange(len(record["sequence.lengths"])), record["sequence.lengths"])
        items = {field.name: values("item", field) for field in spec.item}
        items["index"] = record["item.index"].tolist()
        table = [dict(zip(items, row, strict=True)) for row in zip(*items.values(), strict=True)]
        for click in range(count):
            row = {"record": number, "epoch": epoch, "slot": click}
            row |= {"time": int(record["click.time"][click]), "weight": float(record["click.weight"][click])}
            row |= {key: column[window[click]] for key, column in users.items()}
            if layout == "sequence":
                row["window"] = int(window[click])
            for field in spec.history_fields:
                if layout == "sequence":
                    earlier = [table[slot][field.name] for slot in preceding(spec, record, window, click)]
                elif layout == "block":
                    known = values("history", field)
                    earlier = [known[slot] for slot in stored_history(record, click)]
                else:
                    earlier = values("history", field)
                row[f"history.{field.name}"] = earlier
            row["candidates"] = candidates(spec, record, table, click, block)
            for key in ("user.key", "history.index", "exclude.index"):
                if split != "train" and key in record:
                    row[key] = record[key][0] if key == "user.key" else record[key].tolist()
            found.append(row)
    return found


def preceding(spec, record, window, click):
    """Slots of what a window has before a click, as far as the click may know of it."""
    mine = [i for i in range(click) if window[i] == window[click]]
    if spec.ties == "exclude":
        mine = [i for i in mine if record["click.time"][i] < record["click.time"][click]]
    return record["sequence.item"][mine].tolist()


def stored_history(record, click):
    """Slots of a click's history in the block's table of history items, which names each once."""
    assert len(set(record["history.index"].tolist())) == len(record["history.index"])
    ends = np.cumsum(record["history.lengths"])
    return record["block.history"][ends[click] - record["history.lengths"][click] : ends[click]].tolist()


def candidates(spec, record, table, click, block):
    """The candidates of one click, each with its attributes."""
    if not block:
        log_q = record.get("item.log_q", np.zeros(len(table), np.float32)).tolist()
        mask = record.get("item.mask", np.ones(len(table), np.int64)).tolist()
        slots = list(range(len(table)))
    else:
        negatives = record["block.negatives"].tolist()
        log_q = record.get("item.log_q")
        allowed = 0.0
        if spec.per == "click":
            width = 1 + spec.negatives
            negatives = negatives[click * spec.negatives : (click + 1) * spec.negatives]
            if spec.log_q == "item":
                allowed = record["block.log_allowed"][click]
            mask = record["block.mask"][click * width : (click + 1) * width].tolist() if spec.mask else [1] * width
        positive = "sequence.item" if spec.layout == "sequence" else "block.positive"
        slots = [int(record[positive][click]), *negatives]
        if spec.log_q == "candidate":
            assert log_q is None
            log_q = record["block.log_q"][click * width : (click + 1) * width].tolist()
        else:
            log_q = (log_q[slots] - np.r_[0.0, np.full(len(negatives), allowed)].astype(np.float32)).tolist()
        if spec.per == "click" and spec.unique:
            log_q = [min(q, 0.0) for q in log_q]
        if spec.per == "click" and spec.mask:
            log_q = [
                q if real else float(np.float32(np.log(spec.negatives))) for q, real in zip(log_q, mask, strict=True)
            ]
        if spec.per == "block":
            first = record["block.hit_click"]
            length = record["block.hit_length"] if spec.layout == "sequence" else 1
            hits = record["block.hit_pool"][(first <= click) & (click < first + length)].tolist()
            assert len(set(hits)) == len(hits)
            mask = [1, *(0 if slot in hits else 1 for slot in range(spec.negatives))]
    return [{**table[slot], "log_q": q, "mask": m} for slot, q, m in zip(slots, log_q, mask, strict=True)]


@pytest.fixture(scope="session")
def read_clicks():
    return clicks_of


@pytest.fixture(scope="session")
def read_records():
    return raw_records


def wilson_hilferty(observed, expected, least=5.0):
    """p-value of Pearson's chi-square by the cube-root approximation, cells that expect little put together."""
    observed, expected = np.asarray(observed, float), np.asarray(expected, float)
    assert observed.sum() == pytest.approx(expected.sum())
    assert observed[expected == 0].sum() == 0
    often = expected >= least
    seen = np.append(observed[often], observed[~often].sum())
    told = np.append(expected[often], expected[~often].sum())
    seen, told = seen[told > 0], told[told > 0]
    degrees = len(told) - 1
    chi_square = ((seen - told) ** 2 / told).sum()
    spread = 2 / (9 * degrees)
    return erfc(((chi_square / degrees) ** (1 / 3) - (1 - spread)) / sqrt(spread) / sqrt(2)) / 2


@pytest.fixture(scope="session")
def chi_square_p():
    return wilson_hilferty


GENRES = ("action", "comedy", "drama", "film noir")
FEATURES = {
    "user": {
        "user_id": {"encode": "vocabulary"},
        "age": {"encode": "buckets", "boundaries": [18, 30, 50]},
        "interests": {"encode": "vocabulary", "shape": "list"},
    },
    "item": {
        "item_id": {"encode": "vocabulary"},
        "genres": {"encode": "vocabulary", "shape": "list"},
        "year": {"encode": "buckets", "quantiles": 4},
        "content": {"encode": "none", "shape": [3]},
        "price": {"encode": "none", "default": -1.0},
    },
}
NEGATIVES = {
    "proposal": {"mixture": [{"popularity": {"exponent": 0.75}, "share": 0.7}, {"uniform": {}, "share": 0.3}]},
    "count": 6, "epochs": 2, "seed": 11,
}  # fmt: skip


class World:
    """Random items, users and clicks; times repeat within users, and some clicks are given several times."""

    def __init__(self, seed=0, users=30, items=40, clicks=700, days=12):
        rng = np.random.default_rng(seed)
        ids = rng.permutation(np.arange(100, 100 + 3 * items))[:items].tolist()
        self.items = {
            item: {
                "item_id": item,
                "genres": None if rng.random() < 0.1 else rng.permutation(GENRES)[: rng.integers(0, 4)].tolist(),
                "year": None if rng.random() < 0.1 else int(rng.integers(1930, 1999)),
                "content": rng.normal(size=3).astype(np.float32).tolist(),
                "price": None if rng.random() < 0.2 else float(np.float32(rng.random())),
            }
            for item in ids
        }
        # The last user has no row of their own.
        self.users = {
            user: {
                "user_id": user,
                "age": None if user % 7 == 0 else int(rng.integers(10, 70)),
                "interests": rng.permutation(GENRES)[: rng.integers(0, 3)].tolist(),
            }
            for user in range(1, users)
        }
        # Items differ much in popularity, and the last five are never clicked.
        shares = np.r_[1 / np.arange(1, items - 4), np.zeros(5)]
        self.clicks = [
            (int(rng.integers(1, users + 1)), ids[int(i)], 900_000_000 + 86_400 * int(rng.integers(days)))
            for i in rng.choice(items, clicks, p=shares / shares.sum())
        ]
        self.clicks += [self.clicks[int(i)] for i in rng.integers(0, clicks, 40)]
        self.clicks += [self.clicks[0]] * 3

    def tables(self):
        items = pa.Table.from_pylist(
            list(self.items.values()),
            pa.schema([
                ("item_id", pa.int64()), ("genres", pa.list_(pa.string())), ("year", pa.int32()),
                ("content", pa.list_(pa.float32())), ("price", pa.float64()),
            ]),
        )  # fmt: skip
        users = pa.Table.from_pylist(
            list(self.users.values()),
            pa.schema([("user_id", pa.int64()), ("age", pa.int32()), ("interests", pa.list_(pa.string()))]),
        )
        return self.clicks, items, users

    def by_user(self):
        """Clicks of each user by time, then item."""
        found: dict[int, list[tuple[int, int]]] = {}
        for user, item, time in sorted(self.clicks, key=lambda click: (click[2], click[1])):
            found.setdefault(user, []).append((time, item))
        return found

    def leave_last(self):
        """(split, user, time, item, position among the user's clicks) of every click."""
        for user, clicks in self.by_user().items():
            for position, (time, item) in enumerate(clicks):
                role = {len(clicks) - 1: "test", len(clicks) - 2: "validation"}.get(position, "train")
                yield (role if len(clicks) >= 3 else "train"), user, time, item, position


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture(scope="session")
def world_job(jobs, world):
    """Makes a job file on the world's clicks, with sections of its own."""
    paths = jobs.inputs(*world.tables())

    def made(**sections):
        given = {
            "features": FEATURES,
            "history": {"features": ["item_id", "genres"], "length": 4},
            "negatives": NEGATIVES,
            "split": {"kind": "leave_last"},
        }
        return jobs.document(paths, **(given | sections))

    return made


@pytest.fixture(scope="session")
def row(spark, jobs, world_job):
    return jobs.run(spark, world_job())


@pytest.fixture(scope="session")
def block(spark, jobs, world_job):
    return jobs.run(spark, world_job(layout={"kind": "block", "clicks": 32}))


@pytest.fixture(scope="session")
def pool_sections():
    return {
        "layout": {"kind": "block", "clicks": 50},
        "negatives": {**NEGATIVES, "per": "block", "count": 24},
        "history": {"features": ["item_id", "genres"], "length": 4, "ties": "order"},
        "split": {"kind": "time", "test_from": 900_000_000 + 86_400 * 10, "validation_from": 900_000_000 + 86_400 * 9},
    }


@pytest.fixture(scope="session")
def pool(spark, jobs, world_job, pool_sections):
    return jobs.run(spark, world_job(**pool_sections))


@pytest.fixture(scope="session")
def sequence_sections():
    return {
        "layout": {"kind": "sequence", "positions": 60, "window": 12},
        "negatives": {**NEGATIVES, "per": "block", "count": 10},
        "history": {"features": ["item_id", "genres"], "length": 4, "ties": "order"},
    }


@pytest.fixture(scope="session")
def sequence(spark, jobs, world_job, sequence_sections):
    return jobs.run(spark, world_job(**sequence_sections))
