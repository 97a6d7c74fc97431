"""One HTML file that opens without a network: its frame, its style, tables and lists. All text is escaped here.

Light and dark follow the reader's system. Nothing is fetched and no script runs; the content policy tells the browser.
"""

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --card: #fff; --ink: #1d2125; --soft: #5c6670; --rule: #e2e5e8;
  --one: #2f6db3; --two: #d9822b; --band: #2f6db31a; --good: #217a48; --bad: #b3261e; --mark: #e8f1fb; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1b1f23; --ink: #e4e7ea; --soft: #9aa5b0;
  --rule: #2e343a; --one: #6aa7e8; --two: #eda35a; --band: #6aa7e822;
  --good: #6cc495; --bad: #f2857d; --mark: #1f3247; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.2rem 1.4rem 4rem; }
h1 { font-size: 1.65rem; margin: 0 0 .2rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .7rem; padding-top: 1.1rem; border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 48rem; }
.soft { color: var(--soft); }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .8rem; margin: 1.3rem 0; }
.tiles div { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .75rem .9rem; }
.tiles b { display: block; font-size: 1.45rem; line-height: 1.25; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: .84rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .34rem .7rem .34rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 500; font-size: .84rem; }
td.number, th.number { text-align: right; padding-right: 0; padding-left: 1rem; white-space: nowrap; }
tr.positive td { background: var(--mark); font-weight: 600; }
tr.masked td { color: var(--soft); text-decoration: line-through; }
tr.masked td:first-child { text-decoration: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.3rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .86em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
figure { margin: .9rem 0 1.2rem; }
svg { display: block; width: 100%; height: auto; background: var(--card);
  border: 1px solid var(--rule); border-radius: 8px; }
svg .label { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
svg .name { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--rule); fill: none; } svg .tick { stroke: var(--soft); fill: none; }
svg .band { fill: var(--band); }
svg .one { fill: var(--one); } svg .two { fill: var(--two); }
svg .line { fill: none; stroke-width: 2; } svg .line.one { stroke: var(--one); } svg .line.two { stroke: var(--two); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; font-size: .85rem; color: var(--soft); margin: .4rem 0 0; }
.legend i { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px; margin-right: .45rem; }
.legend i.one { background: var(--one); } .legend i.two { background: var(--two); }
.legend i.dots { border-radius: 50%; } .legend i.line { height: 3px; vertical-align: middle; }
.click { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: .8rem 1rem .5rem; margin: 0 0 1rem; }
.click h3 { margin: 0 0 .4rem; } .click table { margin-top: .5rem; font-size: .87rem; }
.chips span { display: inline-block; margin: 0 .4rem .3rem 0; padding: .05rem .55rem; border: 1px solid var(--rule);
  border-radius: 1rem; font-size: .84rem; } .chips i { color: var(--soft); font-style: normal; }
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page around sections that are HTML already."""
    inner = "\n".join(body)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{inner}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A headed part of the page from HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def paragraph(text: str, css: str = "") -> str:
    """Plain text as a paragraph."""
    return f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>"


def figure(plot: str) -> str:
    """A plot of `pipelines.svg`."""
    return f"<figure>{plot}</figure>"


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Headline figures: (figure, what it is)."""
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{escape(b)}</b><span>{escape(s)}</span></div>" for b, s in pairs)
        + "</div>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: int = 0, css: Sequence[str] = ()) -> str:
    """A table of text, its last `numeric` columns aligned as numbers; `css` gives a class a row."""
    first_number = len(header) - numeric

    def line(tag: str, cells: Sequence[str], kind: str = "") -> str:
        marks = (' class="number"' if place >= first_number else "" for place in range(len(cells)))
        inner = "".join(f"<{tag}{mark}>{escape(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))
        return f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>"

    body = "".join(line("td", row, css[number] if number < len(css) else "") for number, row in enumerate(rows))
    return f'<div class="wide"><table><thead>{line("th", header)}</thead><tbody>{body}</tbody></table></div>'


def terms(pairs: Iterable[tuple[str, str]], code: bool = False) -> str:
    """Names with what they mean, beside each other."""
    begin, end = ("<code>", "</code>") if code else ("", "")
    return (
        "<dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{begin}{escape(text)}{end}</dd>" for name, text in pairs)
        + "</dl>"
    )


def chips(pairs: Iterable[tuple[str, str]]) -> str:
    """Short named values in one line."""
    return '<p class="chips">' + "".join(f"<span><i>{escape(n)}</i> {escape(v)}</span>" for n, v in pairs) + "</p>"
