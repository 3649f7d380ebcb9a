"""The confusion matrix as a table, shaded by the share of each row."""

from collections.abc import Sequence

import numpy as np

from ssd.report.html import text

MOST_CLASSES = 24  # shown; of more, those with most confusions
MOST_PAIRS = 10  # listed


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> str:
    """counts [C + 1, C + 1] as `Confusion` has them; the background is last in both directions."""
    count = len(names)
    shown = list(range(count))
    note = ""
    if count > MOST_CLASSES:
        mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
        shown = sorted(np.argsort(-mistakes[:count], kind="stable")[:MOST_CLASSES].tolist())
        note = f'<p class="note">The {MOST_CLASSES} of {count} classes with most confusions.</p>'
    labels = [*(text(names[index]) for index in shown), "<i>missed</i>"]
    head = "".join(f'<th class="up">{label}</th>' for label in labels)
    body = [_row(counts, index, [*shown, count], text(names[index])) for index in shown]
    body.append(_row(counts, count, [*shown, count], "<i>background</i>"))
    return (
        f'{note}<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{_pairs(counts, names)}"
    )


def _row(counts: np.ndarray, row: int, columns: Sequence[int], label: str) -> str:
    total = counts[row].sum() or 1
    cells = []
    for column in columns:
        value = int(counts[row, column])
        kind = "none" if not value else "on" if row == column else ""
        share = value / total
        cells.append(
            f'<td class="{kind}" style="background:rgba(var(--heat),{0.65 * share:.3f})" '
            f'title="{100 * share:.1f} % of the row">{value:,}</td>'
        )
    return f"<tr><th>{label}</th>{''.join(cells)}</tr>"


def _pairs(counts: np.ndarray, names: Sequence[str]) -> str:
    """The most frequent confusions between classes, as text."""
    between = counts[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [np.unravel_index(place, between.shape) for place in order]
    said = [f"{text(names[a])} as {text(names[b])} ({between[a, b]})" for a, b in pairs if between[a, b]]
    return f'<p class="note">Most often taken for another class: {", ".join(said)}.</p>' if said else ""
