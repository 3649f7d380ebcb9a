"""The pieces of a page: frame, sections, tables, tiles. Everything that is text is escaped here."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root{color-scheme:light dark;--back:#fff;--card:#f6f7f9;--ink:#1b1f24;--soft:#5c6570;--rule:#dde1e6;--accent:#2563a8;
--bar:#7fb0e3;--good:#1a7f46;--bad:#c62f36;--warn:#8a5a00;--heat:37,99,168}
@media(prefers-color-scheme:dark){:root{--back:#15181c;--card:#1f2429;--ink:#e6e9ed;--soft:#9aa4af;--rule:#353c44;
--accent:#7db7f0;--bar:#3f77ad;--good:#57c785;--bad:#ff7b80;--warn:#e0a84a;--heat:110,170,235}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}
h2{font-size:19px;margin:44px 0 6px}
p{margin:4px 0 12px;max-width:78ch}
.soft,figcaption,.note{color:var(--soft)}
.note{font-size:13.5px}
code{font-size:13px;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(136px,1fr));gap:10px;margin:22px 0 6px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{font-size:13px;color:var(--soft)}
.tile.main b{color:var(--accent)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
table.wide{width:100%}
th{font-weight:600;color:var(--soft);font-size:12.5px;vertical-align:bottom}
th,td{padding:5px 10px;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
td.text,th.text{text-align:left;white-space:normal;overflow-wrap:anywhere}
tr.sum td{font-weight:600;border-top:2px solid var(--rule)}
td .cell{display:inline-block;width:90px;height:9px;border-radius:3px;background:var(--rule);vertical-align:middle}
td .cell i{display:block;height:100%;border-radius:3px;background:var(--bar)}
table.matrix td,table.matrix th{border:1px solid var(--rule);text-align:center;padding:4px 7px;font-size:13px}
table.matrix th:first-child{text-align:right}
table.matrix th.up{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;padding:7px 4px}
table.matrix td.on{font-weight:600}
table.matrix td.none{color:transparent}
.chart{display:grid;grid-template-columns:minmax(0,2fr) minmax(200px,1fr);gap:18px;align-items:start;margin:10px 0}
svg{width:100%;height:auto;display:block}
svg line{stroke:var(--rule)}svg text{fill:var(--soft);font-size:12px}
svg path{fill:none;stroke-width:2;stroke-linejoin:round}
svg path.quiet{stroke:var(--rule);stroke-width:1.2}svg path:hover{stroke-width:4}
.legend{list-style:none;margin:6px 0;padding:0;font-size:13.5px;columns:auto 220px}
.legend li{display:flex;gap:8px;align-items:center;break-inside:avoid;padding:1px 0}
.legend i{flex:none;width:16px;height:4px;border-radius:2px}
.legend span{overflow:hidden;text-overflow:ellipsis}
.legend b{margin-left:auto;font-weight:500;font-variant-numeric:tabular-nums}
.bars{max-width:720px;margin:12px 0}
.bar{display:grid;grid-template-columns:120px 1fr 190px;gap:12px;align-items:center;padding:3px 0}
.bar div{height:14px;background:var(--card);border-radius:4px}
.bar i{display:block;height:100%;background:var(--bar);border-radius:4px}
.bar b{font-weight:500;font-variant-numeric:tabular-nums;font-size:14px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(520px,100%),1fr));gap:22px;margin-top:14px;align-items:start}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px}
figure div{display:grid;grid-template-columns:1fr 1fr;gap:6px}
figure img{width:100%;height:auto;display:block;border-radius:3px}
figcaption{font-size:13.5px;padding-top:7px;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
figcaption b{color:var(--ink)}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}summary .bad,summary .warn,.badge{font-weight:600}
.badge{display:inline-block;padding:1px 12px;border:2px solid;border-radius:14px;margin-right:10px}
details{margin:8px 0}summary{cursor:pointer}details table{font-size:13.5px}
.side{display:flex;flex-wrap:wrap;gap:24px}.side>*{flex:1 1 480px;min-width:0}
img.whole{max-width:100%;height:auto;display:block;margin:8px 0}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:5px 18px;margin:8px 0}
dt{font-weight:600}dd{margin:0;max-width:90ch}
@media(max-width:760px){.chart{grid-template-columns:1fr}.bar{grid-template-columns:88px 1fr;}.bar b{grid-column:2}
main{padding:18px 12px 40px}dl{grid-template-columns:1fr}dd{margin-bottom:8px}}
@media print{figure,tr{break-inside:avoid}}
"""


@dataclass(frozen=True)
class Column:
    """A column of a table; `text` ones are left-aligned and may break."""

    name: str
    text: bool = False


def page(title: str, subtitle: str, body: Sequence[str]) -> bytes:
    """The whole file. subtitle and body are HTML. Its policy lets nothing be loaded from elsewhere."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>'
        f'<body><main><h1>{escape(title)}</h1><p class="soft">{subtitle}</p>\n'
        f"{chr(10).join(body)}</main></body></html>\n"
    ).encode(errors="backslashreplace")  # names of directories need not be UTF-8


def section(title: str, note: str, *content: str) -> str:
    """A heading, one sentence of what is seen (HTML), and the content."""
    text = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{text}{''.join(content)}</section>"


def tiles(values: Sequence[tuple[str, str]], main: int) -> str:
    """Headline numbers (name, value); the first `main` stand out."""
    return '<div class="tiles">' + "".join(
        f'<div class="tile{" main" if index < main else ""}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for index, (name, value) in enumerate(values)
    ) + "</div>"  # fmt: skip


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], summary: bool = False) -> str:
    """rows hold HTML (use `text` and `number`); with `summary` the last one is set apart."""

    def cells(tag: str, values: Sequence[str]) -> str:
        marks = [' class="text"' if column.text else "" for column in columns]
        return "".join(f"<{tag}{mark}>{value}</{tag}>" for mark, value in zip(marks, values, strict=True))

    head = cells("th", [escape(column.name) for column in columns])
    body = [f"<tr>{cells('td', row)}</tr>" for row in rows]
    if summary and body:
        body[-1] = body[-1].replace("<tr>", '<tr class="sum">', 1)
    inner = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="scroll"><table class="wide">{inner}</table></div>'


def text(value: object) -> str:
    return escape(str(value))


def number(value: float, digits: int = 3) -> str:
    """A number of fixed digits; a dash for what does not exist."""
    return "–" if value != value else f"{value:.{digits}f}"


def note(value: str) -> str:
    """A paragraph in small print."""
    return f'<p class="note">{escape(value)}</p>'


def details(summary: str, *content: str, opened: bool) -> str:
    """HTML that is shown when its summary (HTML) is clicked, or from the beginning."""
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{''.join(content)}</details>"


def share_bar(value: float) -> str:
    """A small bar of 0..1 next to a number."""
    share = min(max(value, 0), 1) if value == value else 0
    return f'<span class="cell"><i style="width:{100 * share:.0f}%"></i></span>'


def embedded(jpeg: bytes, alternative: str, size: tuple[int, int], style: str = "") -> str:
    """A JPEG of size (width, height) within the page. style: a class of the style sheet."""
    data = base64.b64encode(jpeg).decode()
    mark = f' class="{style}"' if style else ""
    return (
        f'<img{mark} loading="lazy" width="{size[0]}" height="{size[1]}" alt="{escape(alternative)}" '
        f'src="data:image/jpeg;base64,{data}">'
    )


def definitions(items: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in items) + "</dl>"
