"""Curves as small SVGs that are read in light and dark: `python -m benchmarks.plots` draws those of results/ anew."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 50, 74  # room for what stands around the curves
GRID_LINES = 4
NICE = (1, 2, 2.5, 5, 10)  # what steps of an axis may begin with
STYLE = """
svg { font: 11px system-ui, sans-serif; --ink: #1c2430; --faint: #5b6675; --rule: #d9dee5; --paper: #ffffff;
      --c0: #0b66c3; --c1: #c2410c; --c2: #15803d; --c3: #7e22ce; --c4: #64748b; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6eaf0; --faint: #9aa5b4; --rule: #333c49; --paper: #12171e;
        --c0: #60a5fa; --c1: #fb923c; --c2: #4ade80; --c3: #c084fc; --c4: #94a3b8; } }
text { fill: var(--ink); } .faint { fill: var(--faint); } .title { font-size: 14px; font-weight: 600; }
.rule { stroke: var(--rule); } .line { fill: none; stroke-width: 2; } .range { stroke-width: 1; }
"""


@dataclass(frozen=True)
class Line:
    """One line of a curve: its values, and the quartiles of what they are medians of."""

    name: str
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Curve:
    """What a plot shows: lines over the same ticks; a tick may have a second row of text."""

    title: str
    x: str
    y: str
    ticks: Sequence[str]
    lines: Sequence[Line] = field(default_factory=list)
    log: bool = False
    caption: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a plain document, numbers to four digits."""
        document = asdict(self)
        for line in document["lines"]:
            line |= {key: [float(f"{n:.4g}") for n in line[key]] for key in ("values", "low", "high")}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Curve":
        """What `to_json` gave."""
        return cls(**{**document, "lines": [Line(**line) for line in document["lines"]]})


def draw(curve: Curve) -> str:
    """The curve as the text of an SVG."""
    scale = _Scale.of(curve)
    parts = [*_frame(curve, scale), *_ticks(curve, scale), *_legend(curve)]
    for number, line in enumerate(curve.lines):
        parts += _line(line, scale, f"var(--c{number})")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    title = f"<title>{escape(f'{curve.title}: {curve.y}')}</title>"
    paper = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" style="fill: var(--paper)"/>'
    return "\n".join([head, title, f"<style>{STYLE}</style>", paper, *parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Scale:
    """From values to places on the paper."""

    count: int
    marks: Sequence[float]
    log: bool

    @classmethod
    def of(cls, curve: Curve) -> "_Scale":
        """Room for all values and their quartiles."""
        values = [n for line in curve.lines for n in (*line.values, *line.low, *line.high)]
        marks = _decades(min(values), max(values)) if curve.log else _steps(max(values))
        return cls(len(curve.ticks), marks, curve.log)

    def x(self, number: int) -> float:
        width = WIDTH - LEFT - RIGHT
        return LEFT + width * (number + 0.5) / self.count

    def y(self, value: float) -> float:
        low, high, at = (math.log10(n) if self.log else n for n in (self.marks[0], self.marks[-1], value))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (at - low) / (high - low)


def _steps(top: float) -> list[float]:
    """Round numbers from nothing to beyond the top."""
    least = top / GRID_LINES
    power = 10.0 ** math.floor(math.log10(least))
    step = next(n * power for n in NICE if n * power >= least)
    return [step * n for n in range(math.ceil(top / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten from below the lowest to beyond the highest."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**n for n in range(first, max(last, first + 1) + 1)]


def _frame(curve: Curve, scale: _Scale) -> Iterator[str]:
    yield _text(LEFT - 36, 20, curve.title, "title")
    yield _text(WIDTH - RIGHT, 20, curve.y, "faint", "end")
    yield _text(WIDTH / 2, HEIGHT - 24, curve.x, "faint", "middle")
    yield _text(WIDTH / 2, HEIGHT - 8, curve.caption, "faint", "middle", size=8.5)
    for mark in scale.marks:
        y = scale.y(mark)
        yield f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 6, y + 4, f"{mark:g}", "faint", "end")


def _ticks(curve: Curve, scale: _Scale) -> Iterator[str]:
    size = 11 if max(len(tick.split("\n")[0]) for tick in curve.ticks) * len(curve.ticks) < 40 else 9
    for number, tick in enumerate(curve.ticks):
        for row, text in enumerate(tick.split("\n")):
            yield _text(scale.x(number), HEIGHT - BOTTOM + 16 + 12 * row, text, "faint", "middle", size)


def _legend(curve: Curve) -> Iterator[str]:
    at = float(LEFT - 36)
    for number, line in enumerate(curve.lines):
        yield f'<rect x="{at:.0f}" y="31" width="9" height="9" rx="2" style="fill: var(--c{number})"/>'
        yield _text(at + 13, 39, line.name, size=10)
        at += 24 + 5.3 * len(line.name)


def _line(line: Line, scale: _Scale, colour: str) -> Iterator[str]:
    points = [(scale.x(n), scale.y(value)) for n, value in enumerate(line.values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline class="line" points="{path}" style="stroke: {colour}"/>'
    for (x, _), low, high in zip(points, line.low, line.high, strict=False):
        ends = f'y1="{scale.y(low):.1f}" y2="{scale.y(high):.1f}"'
        yield f'<line class="range" x1="{x:.1f}" x2="{x:.1f}" {ends} style="stroke: {colour}"/>'
    for (x, y), value in zip(points, line.values, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill: {colour}"><title>{value:.3g}</title></circle>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start", size: float = 0) -> str:
    style = f' style="font-size: {size}px"' if size else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def redraw(results: Path) -> None:
    """Draw each curve of results/curves.json beside it."""
    for name, stored in json.loads((results / "curves.json").read_text()).items():
        (results / f"{name}.svg").write_text(draw(Curve.from_json(stored)))


if __name__ == "__main__":
    redraw(Path(__file__).parent / "results")
