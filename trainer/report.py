"""report.html of a model: how it learned, how well it ranks beside most-popular, where it does not, and examples.

One file that opens without a network, in light or dark as the reader's system has it. All text is escaped here.
"""

from collections.abc import Sequence
from html import escape

from schemas.manifest import Dataset
from trainer import charts
from trainer.config import Configuration
from trainer.dataset import describe
from trainer.evaluation import Assessment
from trainer.loop import Trained
from trainer.metrics import COLD_CLICKS, RECALLS
from trainer.page import document, section, table, tiles
from trainer.recommendations import Sample
from trainer.results import COLUMNS, rows_of, shown


def page(trained: Trained, config: Configuration, data: Dataset, found: Sequence[Sample]) -> str:
    """The whole report."""
    test = trained.assessed["test"]
    curve = trained.progress.curve
    name = data.name
    summary = (
        f"Two towers; {describe(data.manifest.record)}. Loss {config.loss.described}; dimension "
        f"{config.model.dimension}, seed {config.seed}; best epoch {trained.progress.best_epoch + 1} of {len(curve)}."
    )
    return document(
        f"Model for {name}",
        [
            f"<h1>Model for {escape(name)}</h1>",
            f'<p class="soft">{escape(summary)}</p>',
            _tiles(trained, test),
            section("How well it ranks", _quality(trained, config, test)),
            section("How it learned", _learning(curve, trained.progress.best_epoch)),
            section("Popular and rare items", _popularity(test, len(trained.catalogue))),
            section("Examples", _examples(found)),
            section("What it was trained on", _origin(data)),
        ],
    )


def _tiles(trained: Trained, test: Assessment) -> str:
    speed = trained.speed
    made = [
        (
            f"{test.model.get('recall@10', 0):.3f}",
            f"recall@10, most popular {test.most_popular.get('recall@10', 0):.3f}",
        ),
        (
            f"{test.model.get('recall@100', 0):.3f}",
            f"recall@100, most popular {test.most_popular.get('recall@100', 0):.3f}",
        ),
        (f"{speed['examples_per_second']:,.0f}", "clicks trained on a second"),
        (f"{speed['step_ms']:.1f} ms", f"a step, {speed['input_share']:.0%} of it waiting for data"),
    ]
    return tiles(made)


def _quality(trained: Trained, config: Configuration, test: Assessment) -> str:
    known = "left out" if config.evaluation.exclude_history else "kept in, as people buy the same thing again"
    text = (
        f"Every held-out click is ranked against all {len(trained.catalogue):,} items; what the user had before "
        f"is {known}. Ties count against the model."
    )
    if test.repeats:
        text += f" {test.repeats:.1%} of the test clicks repeat an item the user had: they count as misses."
    if not len(trained.held_out["test"]):
        text += " The dataset has no test clicks."
    rows = [
        [name, *(_number(column, values) for column in COLUMNS)] for name, values in rows_of(trained.assessed).items()
    ]
    return f"<p>{escape(text)}</p>" + table(["", *COLUMNS], rows, "numbers")


def _learning(curve: Sequence[dict[str, float]], best: int) -> str:
    loss = charts.lines("training loss by epoch", {"training loss": [point["loss"] for point in curve]}, "epoch", best)
    if not all(name in point for point in curve for name in RECALLS):
        return loss + '<p class="soft">Without validation clicks the last epoch is kept.</p>'
    recall = charts.lines(
        "validation recall by epoch", {name: [p[name] for p in curve] for name in RECALLS}, "epoch", best
    )
    note = '<p class="soft">Recall is on the validation clicks; the dashed line is the epoch that was kept.</p>'
    return f'<div class="pair"><div>{loss}</div><div>{recall}</div></div>{note}'


def _popularity(test: Assessment, items: int) -> str:
    names = [f"{part + 1}" for part in range(len(test.deciles))]
    series = {
        "the model": [part.get("recall@50", 0.0) for part in test.deciles],
        "most popular": [part.get("recall@50", 0.0) for part in test.most_popular_deciles],
    }
    rows = [
        [f"{part + 1}", _number("clicks", values), *(_number(name, values) for name in RECALLS)]
        for part, values in enumerate(test.deciles)
    ]
    cold = test.cold
    clicks = int(cold["clicks"])
    told = f"Items with fewer than {COLD_CLICKS} training clicks are cold: {clicks} test clicks fall on them"
    told += f", and the model finds {cold['recall@50']:.1%} of these among its first 50." if clicks else "."
    return (
        f"<p>The {items:,} items by training clicks in ten equal parts, 1 the most popular; recall@50 of each. "
        f"{escape(told)}</p>"
        + charts.bars("recall@50 by popularity", names, series, "tenth of the catalogue, by falling popularity")
        + table(["tenth", "test clicks", *RECALLS], rows, "numbers")
    )


def _examples(found: Sequence[Sample]) -> str:
    if not found:
        return "<p>The dataset has no test clicks.</p>"
    parts = []
    for sample in found:
        title = f"User {sample.user}: next came {sample.following}, which the model ranked {sample.rank}"
        rows = [
            [
                sample.last[row] if row < len(sample.last) else "",
                f"{row + 1}. {sample.recommended[row]}" if row < len(sample.recommended) else "",
            ]
            for row in range(max(len(sample.last), len(sample.recommended)))
        ]
        parts.append(
            f"<h3>{escape(title)}</h3>"
            + table(["had last, the most recent first", "recommended"], rows, hit=sample.hit)
        )
    return "".join(parts)


def _origin(data: Dataset) -> str:
    manifest = data.manifest
    train = manifest.splits["train"]
    rows = [
        ["dataset", data.uri],
        ["content digest", manifest.content_digest],
        ["record format", manifest.schema_fingerprint],
        [
            "train",
            f"{train.clicks:,} clicks, {train.records:,} records, {train.bytes:,} bytes, {train.epochs} negative sets",
        ],
        ["user features", ", ".join(field.name for field in manifest.record.user) or "none"],
        ["item features", ", ".join(field.name for field in manifest.record.item)],
        ["history of", ", ".join(manifest.record.history) or "none"],
    ]
    return table(["", ""], rows)


def _number(column: str, values: dict[str, float]) -> str:
    return shown(column, values, missing="–")
