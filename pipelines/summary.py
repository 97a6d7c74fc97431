"""The table at the end of a run: what was read, used, rejected and written, and whether the draws are as declared."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines import words
from schemas.manifest import Dataset, Manifest


def table(manifest: Manifest) -> str:
    """Some lines for a terminal."""
    return "\n".join(["", *_inputs(manifest), "", *_splits(manifest), "", *_draws(manifest), *_end(manifest)])


def told(dataset: Dataset, page: str) -> Iterator[dict[str, Any]]:
    """The same as events, arguments of `Progress.tell`: each warning, and `published` with the figures."""
    manifest = dataset.manifest
    for warning in _warnings(manifest):
        yield {"event": "warning", "text": warning, "level": "warning"}
    splits = {**manifest.splits, "items": manifest.items}
    figures = {
        name: {"clicks": split.clicks, "records": split.records, "bytes": split.bytes, "shards": len(split.shards)}
        for name, split in splits.items()
    }
    observed = manifest.proposal["observed"]
    yield {
        "event": "published", "text": f"dataset: {dataset.uri}", "dataset": dataset.uri, "report": str(page),
        "run": manifest.run, "content_digest": manifest.content_digest, "rows": manifest.rows,
        "rejected": manifest.rejected, "unmatched_items": manifest.unmatched_items,
        "unmatched_users": manifest.statistics.get("unmatched_users", 0), "splits": figures,
        "draws": {name: observed[name] for name in ("draws", "chi_square", "degrees", "p_value", "kl")},
        "seconds": manifest.timings_seconds.get("total", 0), "timings_seconds": manifest.timings_seconds,
    }  # fmt: skip


def _inputs(manifest: Manifest) -> Iterator[str]:
    yield f"{'input':<12}{'read':>14}{'used':>14}{'rejected':>12}"
    for name, rows in manifest.rows.items():
        yield f"{name:<12}{rows['read']:>14,}{rows['used']:>14,}{rows['rejected']:>12,}"
    for reason, count in sorted(manifest.rejected.items(), key=lambda pair: (-pair[1], pair[0])):
        source, _, why = reason.partition(".")
        yield f"  {words.counted(count, 'row')} of {source} rejected: {why}"
    if manifest.rejected:
        yield "  rejected/ holds these rows, each with its reason"
    if manifest.unmatched_items:
        items = words.counted(manifest.unmatched_items, "clicked item")
        yield f"  {items} without a row in items; their clicks are rejected"
    users = manifest.statistics.get("unmatched_users", 0)
    if users:
        yield f"  {words.counted(users, 'user')} without a row in users; their clicks are used, their features missing"
    yield from (f"  {sentence}" for sentence in words.lists(manifest.statistics.get("given", {})))
    yield from (f"  {sentence}" for sentence in words.inherited(manifest.statistics))


def _splits(manifest: Manifest) -> Iterator[str]:
    yield f"{'split':<12}{'clicks':>14}{'records':>14}{'bytes':>16}{'shards':>8}{'bytes/click':>13}"
    for name, split in {**manifest.splits, "items": manifest.items}.items():
        clicks = f"{split.clicks:,}" if split.clicks or name != "items" else ""
        each = f"{split.bytes / split.clicks:,.1f}" if split.clicks else ""
        line = f"{name:<12}{clicks:>14}{split.records:>14,}{split.bytes:>16,}{len(split.shards):>8,}{each:>13}"
        yield line.rstrip()
    yield from words.examples(manifest.statistics.get("examples") or {}, manifest.record.layout)
    sets = manifest.splits["train"].epochs
    if sets > 1:
        yield f"  train holds each click {sets:,} times, with independent negatives"


def _draws(manifest: Manifest) -> Iterator[str]:
    observed = manifest.proposal["observed"]
    follows, _ = _agreement(manifest)
    yield f"negatives    {words.proposal(manifest.config['negatives']['proposal'])}"
    verdict = "as declared" if follows else "NOT as declared"
    yield f"             {observed['draws']:,} drawn, {verdict}: {_figures(observed)}"
    yield from _strategies(manifest)
    yield from (f"WARNING: {warning}" for warning in _warnings(manifest))


def _warnings(manifest: Manifest) -> Iterator[str]:
    follows, why = _agreement(manifest)
    if not follows:
        yield why
    lacking = manifest.proposal.get("clicks_without_draws", 0)
    if lacking:
        yield f"{words.counted(lacking, 'click')} had nothing left to draw; their negatives are masked"


def _agreement(manifest: Manifest) -> tuple[bool, str]:
    return words.agreement(manifest.proposal["observed"], manifest.proposal.get("strategies", ()))


def _strategies(manifest: Manifest) -> Iterator[str]:
    rows = words.strategy_rows(manifest.proposal)
    if not rows:
        return
    rows.insert(0, list(words.STRATEGY_COLUMNS))
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *figures in rows:
        told = "".join(f"  {figure:>{width}}" for figure, width in zip(figures, widths, strict=True))
        yield f"  {name:<{first}}{told}"


def _figures(observed: Mapping[str, Any]) -> str:
    fit = (
        f"chi-square {observed['chi_square']:,.1f} with {observed['degrees']:,} degrees, p = {observed['p_value']:.3g}"
    )
    return f"{fit}, KL {observed['kl']:.2g}"


def _end(manifest: Manifest) -> Iterator[str]:
    yield f"digest       {manifest.content_digest}"
    yield f"took         {words.duration(manifest.timings_seconds.get('total', 0))}"
