"""Charts as inline SVG that take their colours from the page: light and dark, any width."""

import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 18, 10, 40
# Okabe & Ito (2008), without yellow, which is too faint for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
# A line's colour is class s0 ... s7 of the style sheet; its dashes tell it from the others too.
DASHES = ("", "8 4", "2 3", "12 3 2 3", "18 4", "12 3 2 3 2 3", "5 9", "18 3 5 3")
_MAX_POINTS = 400  # a line with more is thinned: a screen has no room for them

# Nine steps of viridis (Smith & van der Walt 2015), which grey and colour-blind readers order.
_RAMP = (
    (68, 1, 84),
    (72, 40, 120),
    (62, 74, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (144, 215, 67),
    (253, 231, 37),
)

Points = Sequence[tuple[float, float]]


def line_chart(
    series: Sequence[tuple[str, Points]],
    *,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    styles: Sequence[int] | None = None,
) -> str:
    """Returns a chart of named lines.

    Args:
      series: (name, points in order of x); the name shows when a pointer rests on the line.
      x_label: under the chart.
      y_label: beside it, with unit.
      log_y: whether the vertical axis is logarithmic; points at or below 0 are left out then.
      styles: for each line the number of its colour and dashes; by default its place in `series`.
    """
    kept = [
        (name, [(x, y) for x, y in _thinned(points) if math.isfinite(y) and (y > 0 or not log_y)])
        for name, points in series
    ]
    xs = [x for _, points in kept for x, _ in points]
    ys = [math.log10(y) if log_y else y for _, points in kept for _, y in points]
    if not xs:
        return ""
    x_axis = _Axis(xs, _LEFT, WIDTH - _RIGHT, _round_ticks)
    y_axis = _Axis(ys, HEIGHT - _BOTTOM, _TOP, _log_ticks if log_y else _round_ticks)
    parts = [_grid(x_axis, y_axis, log_y), _labels(x_label, y_label)]
    for style, (name, points) in zip(styles or range(len(kept)), kept, strict=True):
        if not points:
            continue
        places = [f"{x_axis(x):.1f},{y_axis(math.log10(y) if log_y else y):.1f}" for x, y in points]
        if len(set(places)) == 1:  # a line of no length would not be seen
            x, y = places[0].split(",")
            tag, place = "circle", f'cx="{x}" cy="{y}" r="3"'
        else:
            tag, place = "polyline", f'points="{" ".join(places)}"'
        parts.append(f"<{tag} {line_style(style)} {place}><title>{escape(name)}</title></{tag}>")
    return _svg(WIDTH, HEIGHT, f"{y_label} over {x_label}", parts)


def line_style(number: int) -> str:
    """Returns the attributes that give a line its colour and its dashes; both start again."""
    number %= len(DASHES)
    dashes = f' stroke-dasharray="{DASHES[number]}"' if DASHES[number] else ""
    return f'class="line s{number}"{dashes}'


def svg_heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    x_label: str,
    y_label: str,
    unit: str,
    limits: tuple[float, float] | None = None,
    width: int = WIDTH,
) -> str:
    """Returns a map of cells coloured by value, with a scale beside it.

    Args:
      rows: names, from top to bottom.
      columns: names, from left to right.
      values: a value for each row and column; None leaves the cell empty.
      x_label: under the map.
      y_label: beside it.
      unit: of the values, over the scale.
      limits: lowest and highest of the colour scale; by default those of the values.
      width: of the whole; narrow maps stand side by side.
    """
    known = [v for row in values for v in row if v is not None and math.isfinite(v)]
    if not known:
        return ""
    low, high = limits or (min(known), max(known))
    cell = max(12, min(22, 330 // max(1, len(rows))))
    height = _TOP + 14 + cell * len(rows) + _BOTTOM
    left, right = 74, width - 74
    step = (right - left) / len(columns)
    top = _TOP + 14
    parts = []
    for i, (row, row_values) in enumerate(zip(rows, values, strict=True)):
        y = top + i * cell
        parts.append(
            f'<text class="tick" x="{left - 4}" y="{y + cell / 2 + 4:.1f}" text-anchor="end">'
            f"{escape(row)}</text>"
        )
        for j, (column, value) in enumerate(zip(columns, row_values, strict=True)):
            if value is None or not math.isfinite(value):
                continue
            color = _ramp((value - low) / (high - low) if high > low else 0.5)
            parts.append(
                f'<rect x="{left + j * step:.2f}" y="{y}" width="{step + 0.2:.2f}" '
                f'height="{cell + 0.2:.1f}" fill="{color}"><title>{escape(row)}, '
                f"{escape(x_label)} {escape(column)}: {value:.3g} {escape(unit)}</title></rect>"
            )
    bottom = top + cell * len(rows)
    every = max(1, math.ceil(len(columns) / 6))
    for j in range(0, len(columns), every):
        parts.append(
            f'<text class="tick" x="{left + (j + 0.5) * step:.1f}" y="{bottom + 15}" '
            f'text-anchor="middle">{escape(columns[j])}</text>'
        )
    parts.append(_x_label(x_label, (left + right) / 2, height))
    parts.append(_y_label(y_label, (top + bottom) / 2))
    parts += _scale(low, high, unit, right + 12, top, bottom)
    return _svg(width, height, f"{unit} by {y_label} and {x_label}", parts)


class _Axis:
    """Maps values to positions."""

    def __init__(
        self,
        values: Sequence[float],
        start: float,
        end: float,
        ticks: Callable[[float, float], list[float]],
    ) -> None:
        low, high = min(values), max(values)
        if high - low < 1e-9 * max(abs(low), abs(high), 1e-300):
            margin = abs(high) / 10 or 0.5
            low, high = low - margin, high + margin
        self.ticks = ticks(low, high)
        self._low, self._scale, self._start = low, (end - start) / (high - low), start

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._scale


def _round_ticks(low: float, high: float) -> list[float]:
    """Returns three to six multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(m * power for m in (1, 2, 5, 10) if 4 * m * power >= (high - low) * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Returns logarithms of round numbers: powers of ten, or over less than a decade any."""
    if high - low < 1:
        return [math.log10(tick) for tick in _round_ticks(10.0**low, 10.0**high)]
    every = math.ceil((high - low) / 6)
    digits = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [p + math.log10(d) for p in powers if p % every == 0 for d in digits]
    return [tick for tick in ticks if low - 1e-9 <= tick <= high + 1e-9]


def _thinned(points: Points) -> Points:
    every = math.ceil(len(points) / _MAX_POINTS)
    return [*points[::every], *points[-1:]] if every > 1 else points


def _grid(x_axis: _Axis, y_axis: _Axis, log_y: bool) -> str:
    parts = []
    y_texts = _numbers([10.0**tick if log_y else tick for tick in y_axis.ticks])
    for tick, text in zip(y_axis.ticks, y_texts, strict=True):
        y = y_axis(tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    for tick, text in zip(x_axis.ticks, _numbers(x_axis.ticks), strict=True):
        x = x_axis(tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
            f"{text}</text>"
        )
    return "".join(parts)


def _labels(x_label: str, y_label: str) -> str:
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    return _x_label(x_label, middle, HEIGHT) + _y_label(y_label, (_TOP + HEIGHT - _BOTTOM) / 2)


def _x_label(text: str, x: float, height: float) -> str:
    return (
        f'<text class="label" x="{x:.0f}" y="{height - 6:.0f}" text-anchor="middle">'
        f"{escape(text)}</text>"
    )


def _y_label(text: str, y: float) -> str:
    return (
        f'<text class="label side" transform="translate(12 {y:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(text)}</text>'
    )


def _scale(low: float, high: float, unit: str, x: float, top: float, bottom: float) -> list[str]:
    steps = 24
    height = (bottom - top) / steps
    parts = [
        f'<rect x="{x:.1f}" y="{bottom - (i + 1) * height:.2f}" width="10" '
        f'height="{height + 0.3:.2f}" fill="{_ramp(i / (steps - 1))}"/>'
        for i in range(steps)
    ]
    span = max(high - low, 1e-3 * abs(high), 1e-300)
    for value, y in ((high, top + 9), (low, bottom)):
        text = _number(round(value, 2 - math.floor(math.log10(span))))
        parts.append(f'<text class="tick" x="{x + 13:.1f}" y="{y:.1f}">{text}</text>')
    parts.append(
        f'<text class="tick" x="{x + 60:.1f}" y="{top - 8}" text-anchor="end">{escape(unit)}</text>'
    )
    return parts


def _ramp(share: float) -> str:
    place = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    i = min(int(place), len(_RAMP) - 2)
    mixed = (round(a + (b - a) * (place - i)) for a, b in zip(_RAMP[i], _RAMP[i + 1], strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _numbers(values: Sequence[float]) -> list[str]:
    """Returns the numbers of ticks, with as many digits as tell them apart."""
    for digits in range(3, 12):
        texts = [_number(value, digits) for value in values]
        if len(set(texts)) == len(values):
            break
    return texts


def _number(value: float, digits: int = 3) -> str:
    """Returns a number, short: 0.25, 20k, 1e-5."""
    if abs(value) < 1e-12:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:.{digits + 3}g}k"
    if abs(value) >= 1e-3:
        return f"{value:.{max(digits, 4) if abs(value) >= 1000 else digits}g}"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _svg(width: float, height: float, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(description)}">{"".join(parts)}</svg>'
    )
