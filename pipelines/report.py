"""report.html: what a person looks at first. Read, used, rejected; what was drawn and whether it is what was declared;
what a click costs; and some records as they are, in words.

The page tells only what the manifest and the shards say. It is no file of the manifest, and may be deleted or written
anew.
"""

from collections import Counter
from collections.abc import Iterator
from html import escape

from pipelines import figures, page, readable, words
from pipelines.readable import ReadableClick, ReadableRecord
from schemas.manifest import Dataset, Manifest

REPORT = "report.html"
RECORDS, SHOWN = 3, readable.Shown(clicks=3, history=8, candidates=8)


def write(dataset: Dataset) -> str:
    """Writes `<dataset>/report.html` as a whole and returns its path or URI.

    Raises:
      CorruptDataset: a shard that is sampled differs from the manifest.
    """
    dataset.folder.write(REPORT, html(dataset).encode())
    return dataset.folder.location(REPORT)


def html(dataset: Dataset) -> str:
    """The page."""
    manifest = dataset.manifest
    title = f"Dataset {dataset.name}"
    return page.document(
        title,
        [
            *_headline(title, manifest),
            _inputs(manifest),
            _splits(manifest),
            _choices(manifest),
            _draws(manifest),
            _popularity(manifest),
            _histories(manifest),
            *_records(dataset),
            _origin(manifest),
        ],
    )


def _headline(title: str, manifest: Manifest) -> Iterator[str]:
    train, (follows, _) = manifest.splits["train"], _agreement(manifest)
    yield f"<h1>{escape(title)}</h1>"
    yield page.paragraph(
        f"Written {manifest.created.replace('T', ' ').replace('+00:00', ' UTC')} in "
        f"{words.duration(manifest.timings_seconds.get('total', 0))}; run {manifest.run}.",
        "soft",
    )
    held_out = sum(split.clicks for name, split in manifest.splits.items() if name != "train")
    each = train.clicks // train.epochs
    sets = f" in {words.counted(train.epochs, 'set')} of negatives" if train.epochs > 1 else ""
    yield page.tiles(
        [
            (f"{each:,}", f"training clicks{sets}"),
            (f"{held_out:,}", "held-out clicks"),
            (f"{manifest.items.records:,}", "items"),
            (f"{manifest.statistics['bytes_per_click']:,.0f} bytes", "a training click"),
            (words.size(sum(split.bytes for split in (*manifest.splits.values(), manifest.items))), "in all shards"),
            ("as declared" if follows else "NOT as declared", "sampling distribution"),
        ]
    )


def _inputs(manifest: Manifest) -> str:
    rows = []
    for name, count in manifest.rows.items():
        reasons = {k.partition(".")[2]: n for k, n in manifest.rejected.items() if k.startswith(f"{name}.")}
        why = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items(), key=lambda pair: -pair[1]))
        rows.append([name, why or "none", f"{count['read']:,}", f"{count['used']:,}", f"{count['rejected']:,}"])
    notes = []
    if any(manifest.rejected.values()):
        notes.append("Rejected rows are kept in rejected/, each with its reason.")
    if manifest.unmatched_items:
        notes.append(
            f"{words.counted(manifest.unmatched_items, 'clicked item')} had no row among the items; "
            "their clicks are rejected."
        )
    users = manifest.statistics.get("unmatched_users", 0)
    if users:
        notes.append(
            f"{words.counted(users, 'user')} had clicks but no row among the users; "
            "their clicks are used, their features missing."
        )
    if not notes:
        notes.append("Every row was used; every clicked item and every user had a row of its own.")
    lists = words.lists(manifest.statistics.get("given", {}))
    if lists:
        notes.append(f"Lists of negatives beside the clicks: {'; '.join(lists)}.")
    notes += [f"{sentence[0].upper()}{sentence[1:]}." for sentence in words.inherited(manifest.statistics)]
    table = page.table(["input", "rejected for", "read", "used", "rejected"], rows, numeric=3)
    return page.section("What went in", table, page.paragraph(" ".join(notes)))


def _splits(manifest: Manifest) -> str:
    rows = []
    for name, split in {**manifest.splits, "items": manifest.items}.items():
        each = f"{split.bytes / split.clicks:,.1f}" if split.clicks else ""
        clicks = f"{split.clicks:,}" if split.clicks or name != "items" else ""
        rows.append([name, clicks, f"{split.records:,}", words.size(split.bytes), each, f"{len(split.shards):,}"])
    sets = manifest.splits["train"].epochs
    note = f"Train counts each click {sets:,} times, once with each independent set of negatives." if sets > 1 else ""
    table = page.table(["split", "clicks", "records", "size", "bytes a click", "shards"], rows, numeric=5)
    unused = [
        f"{line.strip()}." for line in words.examples(manifest.statistics.get("examples") or {}, manifest.record.layout)
    ]
    note = " ".join([note, *unused]).strip()
    return page.section("What came out", table, page.paragraph(note) if note else "")


def _choices(manifest: Manifest) -> str:
    shapes = {"scalar": "one", "list": "list"}
    fields = []
    for side, group in (("user", manifest.record.user), ("item", manifest.record.item)):
        for field in group:
            shape, indices = shapes.get(str(field.shape), str(field.shape)), f"{field.size:,}" if field.size else ""
            told = "yes" if side == "item" and field.name in manifest.record.history else ""
            fields.append([side, field.name, field.encode, shape, indices, told])
    table = page.table(["of", "feature", "encoded as", "values", "indices", "in histories"], fields)
    return page.section("The job's choices", page.terms(words.choices(manifest.config)), "<h3>Features</h3>", table)


def _agreement(manifest: Manifest) -> tuple[bool, str]:
    return words.agreement(manifest.proposal["observed"], manifest.proposal.get("strategies", ()))


def _draws(manifest: Manifest) -> str:
    observed, statistics = manifest.proposal["observed"], manifest.statistics
    follows, sentence = _agreement(manifest)
    lacking = manifest.proposal.get("clicks_without_draws", 0)
    never = statistics["items"] - statistics.get("items_counted", statistics["items_clicked"])
    everywhere = [part["strategy"] for part in manifest.proposal["declared"]]
    everywhere = [name for name in ("uniform", "log_uniform") if name in everywhere]
    notes = [page.paragraph(sentence, "" if follows else "bad")]
    chi_square = (
        f"{observed['chi_square']:,.1f} with {observed['degrees']:,} degrees of freedom; "
        f"as much is expected, give or take {(2 * observed['degrees']) ** 0.5:,.0f}"
    )
    facts = [
        ("draws", f"{observed['draws']:,}"),
        ("chi-square", chi_square),
        ("p-value", f"{observed['p_value']:.3g}"),
        ("KL divergence", f"{observed['kl']:.3g} nats, of the observed draws from the declared ones"),
    ]
    if never:
        reach = (
            f"drawn by the {' and '.join(everywhere)} share alone"
            if everywhere
            else "never drawn as negatives, since nothing but popularity draws"
        )
        counted = " that frequencies count" if manifest.record.frequency else ""
        facts.append(("unclicked", f"{words.counted(never, 'item')} without a training click{counted}: {reach}"))
    if lacking:
        facts.append(("nothing to draw", f"{words.counted(lacking, 'click')}, masked"))
    notes.append(page.terms(facts))
    rows = words.strategy_rows(manifest.proposal)
    if rows:
        told = (
            "A strategy that depends on the click has slots of its own; what it cannot fill (a short list, a tiny "
            "group) falls back to those over the whole catalogue, the first line, and only that line is in the plots "
            "below. Refused are draws and list entries that a click excludes. A list is drawn from without repeats, "
            "which varies less than chance, so its p-value is high."
        )
        table = page.table(list(words.STRATEGY_COLUMNS), rows, numeric=6)
        notes += ["<h3>By strategy</h3>", table, page.paragraph(told, "soft")]
    if not observed["draws"]:
        return page.section("Declared against observed draws", *notes)
    below = (
        "Each dot is an item, or a run of items of like popularity. Expected draws account for what each click "
        "excludes. Below, the same differences in standard deviations: chance leaves about 19 of 20 dots in the band."
    )
    return page.section(
        "Declared against observed draws",
        *notes,
        page.figure(figures.draws_by_rank(statistics)),
        page.paragraph(below, "soft"),
        page.figure(figures.deviations_by_rank(statistics)),
    )


def _popularity(manifest: Manifest) -> str:
    positives = figures.shares(manifest.statistics["positives_by_decile"])
    negatives = figures.shares(manifest.statistics["negatives_by_decile"])
    text = (
        f"The tenth of the clicks that goes to the most popular items takes {positives[0]:.1f}% of positives and "
        f"{negatives[0]:.1f}% of negatives; the least popular one {positives[9]:.1f}% and {negatives[9]:.1f}%. "
        "Subtracting log_q in the loss undoes the difference."
    )
    return page.section(
        "Negatives against positives by popularity",
        page.paragraph(text),
        page.figure(figures.deciles(manifest.statistics)),
    )


def _histories(manifest: Manifest) -> str:
    if not manifest.record.history:
        return ""
    lengths = manifest.statistics["history_lengths"]["clicks"]
    text = f"{100 * lengths[0] / (sum(lengths) or 1):.1f}% of training clicks have no earlier click to go by."
    plot = figures.history_lengths(manifest.statistics, manifest.record.history_length)
    return page.section("History lengths", page.paragraph(text), page.figure(plot))


def _records(dataset: Dataset) -> Iterator[str]:
    layout = dataset.manifest.record.layout
    records = readable.records(dataset, "train", RECORDS if layout == "row" else 1, SHOWN)
    if not records:
        return
    clicks = sum(record.clicks_total for record in records)
    sizes: Counter[str] = Counter()
    for record in records:
        sizes.update(record.key_bytes)
    rows = [[key, f"{size / clicks:,.1f}", f"{size / sizes.total():.1%}"] for key, size in sizes.most_common()]
    of = f"{words.counted(clicks, 'click')} of {words.counted(len(records), 'record')}"
    text = f"Measured on {of}, before compression."
    table = page.table(["key", "bytes a click", "share"], rows, numeric=2)
    yield page.section("Where the bytes go", page.paragraph(text, "soft"), table)
    intro = (
        "The first training records in words. They lie in shuffled order: a fair sample. The clicked item comes first."
    )
    yield page.section("Sampled records", page.paragraph(intro, "soft"), *(_record(record) for record in records))


def _record(record: ReadableRecord) -> str:
    clicks = words.counted(record.clicks_total, "click")
    size = escape(words.size(record.bytes))
    head = f"<p>Record {record.number} of <code>{escape(record.shard)}</code>: {clicks}, {size}.</p>"
    return head + "\n".join(_click(click) for click in record.clicks)


def _click(click: ReadableClick) -> str:
    positive = click.candidates[0]
    features = list(positive.features)
    earlier = f"{words.counted(click.earlier, 'earlier click')}, then " if click.earlier else ""
    history = f"{earlier}{' → '.join(click.history)}" if click.history else "none"
    rows = [
        [
            candidate.role,
            candidate.name,
            *candidate.features.values(),
            "" if candidate.log_q is None else f"{candidate.log_q:.3f}",
        ]
        for candidate in click.candidates
    ]
    table = page.table(
        ["", "item", *features, "log_q"], rows, numeric=1, css=[candidate.role for candidate in click.candidates]
    )
    more = []
    if click.further:
        more.append(f"{words.counted(click.further, 'further candidate')} not shown")
    if click.masked:
        more.append(f"{click.masked:,} of all masked out for this click")
    note = page.paragraph("; ".join(more) + ".", "soft") if more else ""
    weight = "" if click.weight == 1 else f", weight {click.weight:g}"
    title = f"<h3>{escape(positive.name)} <span class='soft'>{escape(click.time + weight)}</span></h3>"
    facts = page.chips(click.user.items()) + page.terms([("history", history)])
    return f'<div class="click">{title}{facts}{table}{note}</div>'


def _origin(manifest: Manifest) -> str:
    seconds = [[name, f"{value:,.1f}"] for name, value in manifest.timings_seconds.items()]
    identity = [
        ("content digest", manifest.content_digest),
        ("schema fingerprint", manifest.schema_fingerprint),
        ("run", manifest.run),
        ("format version", str(manifest.format_version)),
        ("time unit", manifest.time_unit),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return page.section(
        "Where it comes from",
        page.terms(identity, code=True),
        page.terms([("versions", versions)]),
        "<h3>Timings</h3>",
        page.table(["step", "seconds"], seconds, numeric=1),
    )
