"""A bar chart as SVG: labeled values of one unit, the first of them ours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP, _BAR = 760, 230, 110, 44, 30, 20
_OURS, _OTHERS = "#0f766e", "#94a3b8"
_STYLE = "text { font: 13px system-ui, sans-serif; fill: #334155 } .title { font-weight: 600; font-size: 14px }"


def bars(title: str, unit: str, values: Sequence[tuple[str, float]]) -> str:
    """The chart's SVG; `values` are pairs of label and figure. The background is light, for dark pages too."""
    height, maximum = _TOP + _STEP * len(values) + 12, max(value for _, value in values)
    drawn = "".join(
        _bar(number, label, value, (_WIDTH - _LEFT - _RIGHT) * value / maximum)
        for number, (label, value) in enumerate(values)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f'<rect width="100%" height="100%" rx="6" fill="#f8fafc"/>'
        f'<text class="title" x="16" y="26">{escape(title)} ({escape(unit)})</text>{drawn}</svg>\n'
    )


def _bar(number: int, label: str, value: float, width: float) -> str:
    y = _TOP + number * _STEP
    middle, color = y + _BAR * 0.72, _OTHERS if number else _OURS
    return (
        f'<text x="{_LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{_LEFT}" y="{y}" width="{max(width, 1.5):.1f}" height="{_BAR}" rx="3" fill="{color}"/>'
        f'<text x="{_LEFT + max(width, 1.5) + 8:.1f}" y="{middle:.0f}">{number_text(value)}</text>'
    )


def number_text(value: float) -> str:
    """Three significant digits, with thousands separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
