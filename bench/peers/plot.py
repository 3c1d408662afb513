"""Draws the table of a report of `compare.py` as bars: seconds a step, seconds to the first step, peak memory.

usage: plot.py REPORT.md ...
Writes REPORT.svg beside each, and the line that shows it behind the report's table, if it is not there.
"""

import pathlib
import sys
from html import escape

FIGURES = [("s/step, median", "Seconds a step"), ("first step, s", "Seconds to the first step"), ("peak MB", "Peak memory, MB")]
OURS, THEIRS = "#c2410c", "#94a3b8"
NAMES, BARS, GAP, ROW, TOP = 150, 190, 64, 22, 46  # pixels


def rows_of(text):
    """The table, a dict per row, numbers as text."""
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    # "times Emulsion's" stands twice; no figure of a plot.
    return [dict(zip(cells[0], row)) for row in cells[2:]]


def drawn(rows, title):
    groups = list(dict.fromkeys(row["numbers"] for row in rows))
    # A line for each row, and one for each kind of number above its rows.
    lines = []
    for group in groups:
        lines += [group, *[row for row in rows if row["numbers"] == group]]
    width = NAMES + len(FIGURES) * (BARS + GAP)
    height = TOP + len(lines) * ROW + 12
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]

    def text(x, y, words, anchor="start", more=""):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#1f2937" {more}>{escape(words)}</text>')

    for k, (key, heading) in enumerate(FIGURES):
        left = NAMES + k * (BARS + GAP)
        text(left, 24, heading, more='font-weight="bold"')
        most = max(float(row[key]) for row in rows)
        for number, row in enumerate(lines):
            y = TOP + number * ROW
            if isinstance(row, str):
                if k == 0:
                    text(8, y + 14, row, more='font-style="italic"')
                continue
            value = float(row[key])
            ours = row["who"] == "Emulsion"
            if k == 0:
                text(NAMES - 8, y + 14, row["who"], "end", 'font-weight="bold"' if ours else "")
            size = BARS * value / most
            out.append(f'<rect x="{left}" y="{y + 3}" width="{size:.1f}" height="{ROW - 7}" fill="{OURS if ours else THEIRS}"/>')
            text(left + size + 4, y + 14, f"{value:.0f}" if value >= 100 else f"{value:.3g}")
    out.append("</svg>\n")
    return "\n".join(out)


def plot(report):
    text = report.read_text()
    title = next(line for line in text.splitlines() if line and not line.startswith("#"))
    picture = report.with_suffix(".svg")
    picture.write_text(drawn(rows_of(text), title))
    shown = f"![the table as bars]({picture.name})"
    if shown not in text:
        table_end = max(i for i, line in enumerate(text.splitlines()) if line.startswith("|"))
        lines = text.splitlines()
        lines[table_end + 1 : table_end + 1] = ["", shown]
        report.write_text("\n".join(lines) + "\n")
    return picture


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        print(plot(pathlib.Path(name)))
