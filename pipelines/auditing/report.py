"""The outcome of an audit: a table for the terminal, and a page that opens without a network."""

from collections.abc import Iterator
from html import escape

from pipelines import page
from pipelines.auditing.findings import CHECKS, Check, Findings
from schemas import events
from schemas.manifest import Dataset


def text(name: str, findings: Findings) -> str:
    """A table of the checks, and below it what was found and what was not checked."""
    lines = [f"{'check':<14}{'checked':>14}{'findings':>10}   what"]
    for check, what in CHECKS.items():
        told = findings.checks[check]
        lines.append(f"{check:<14}{told.checked:>14,}{_found(told):>10}   {what}")
    for check, told in findings.checks.items():
        lines += ["", *(f"{check}: {line}" for line in _printable(told.shown))] if told.shown else []
        if told.found > len(told.shown) > 0:
            lines.append(f"{check}: {told.found - len(told.shown):,} more")
    notes = [f"  {check}: {line}" for check, told in findings.checks.items() for line in told.notes]
    notes += [f"  {check}: {line}" for check, told in findings.checks.items() for line in _skipped(told)]
    verdict = f"{findings.found:,} findings" if findings.found else "no findings"
    return "\n".join([*lines, "", *notes, *([""] if notes else []), f"{name}: {verdict}"])


def told(dataset: Dataset, findings: Findings) -> Iterator[str]:
    """The same as events: one for each check that found something, and `audited` with all of them."""
    for name, check in findings.checks.items():
        if check.found:
            yield events.line(
                "finding", f"{name}: {check.found:,} findings", "error", check=name, found=check.found,
                shown=check.shown,
            )  # fmt: skip
    yield events.line(
        "audited", f"{dataset.root.name}: {findings.found:,} findings", "error" if findings.found else "info",
        dataset=str(dataset.root), content_digest=dataset.manifest.content_digest, findings=findings.found,
        checked={name: check.checked for name, check in findings.checks.items()},
        skipped={name: check.skipped for name, check in findings.checks.items() if check.skipped},
    )  # fmt: skip


def html(dataset: Dataset, findings: Findings) -> str:
    """The page."""
    manifest = dataset.manifest
    title = f"Audit of {dataset.name}"
    kind = "bad" if findings.found else "good"
    verdict = f"{findings.found:,} findings" if findings.found else "No findings"
    rows = [
        [check, what, f"{findings.checks[check].checked:,}", _found(findings.checks[check])]
        for check, what in CHECKS.items()
    ]
    sections = []
    for check, told in findings.checks.items():
        if not (told.shown or told.notes or told.skipped):
            continue
        parts = [page.paragraph(CHECKS[check])]
        if told.shown:
            shown = "" if told.found == len(told.shown) else f", the first {len(told.shown)} shown"
            parts.append(f'<p class="bad">{told.found:,} findings{shown}</p>')
            parts.append(page.table(["finding"], [[line] for line in _printable(told.shown)]))
        parts += [page.paragraph(line, "soft") for line in [*told.notes, *_skipped(told)]]
        sections.append(page.section(check, *parts))
    return page.document(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            page.paragraph(
                f"Run {manifest.run}, written {manifest.created}, content {manifest.content_digest}", "soft"
            ),
            f'<p class="{kind}">{verdict}</p>',
            page.table(["check", "what it looks for", "checked", "findings"], rows, numeric=2),
            *sections,
        ],
    )


def _found(check: Check) -> str:
    """How many findings; a check that looked at nothing has no say."""
    return f"{check.found:,}" if check.checked or check.found else "-"


def _skipped(check: Check) -> list[str]:
    return [f"not checked: {reason} ({count:,})" for reason, count in check.skipped.items()]


def _printable(lines: list[str]) -> list[str]:
    """Item keys are the user's own text; control characters stay off the terminal."""
    return ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines]
