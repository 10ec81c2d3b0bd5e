"""Plots as SVG, without a library: lines over a number, and bars of medians with their spread."""
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 64, 150, 36, 44
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2"]


def nice(most):
    """The end of an axis, and the distance of its marks."""
    step = 10 ** (len(str(int(most or 1))) - 1)
    while most / step < 4:
        step /= 2
    return (int(most / step) + 1) * step, step


def head(title, width=WIDTH, height=HEIGHT):
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]


def text(value):
    return f"{value:g}" if value < 10_000 else f"{value:,.0f}"


def lines(path, title, across, up, series, goal=None):
    """`series`: name to [(x, y)]."""
    points = [point for values in series.values() for point in values]
    right, x_step = nice(max(x for x, _ in points))
    top, y_step = nice(max([y for _, y in points] + ([goal] if goal else [])))
    x_of = lambda x: LEFT + (WIDTH - LEFT - RIGHT) * x / right
    y_of = lambda y: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top
    out = head(title)
    for mark in range(int(top / y_step) + 1):
        y = y_of(mark * y_step)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text(mark * y_step)}</text>')
    for mark in range(int(right / x_step) + 1):
        out.append(f'<text x="{x_of(mark * x_step):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text(mark * x_step)}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    out.append(f'<text x="14" y="{HEIGHT / 2:.0f}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2:.0f})">{escape(up)}</text>')
    if goal:
        out.append(f'<line x1="{LEFT}" y1="{y_of(goal):.1f}" x2="{WIDTH - RIGHT}" y2="{y_of(goal):.1f}" stroke="#888" stroke-dasharray="5 4"/><text x="{WIDTH - RIGHT + 6}" y="{y_of(goal) + 4:.1f}" fill="#888">goal {text(goal)}</text>')
    for number, (name, values) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        drawn = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in values)
        out.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}"/>' for x, y in values]
        out.append(f'<text x="{WIDTH - RIGHT + 6}" y="{TOP + 16 * number + 4}" fill="{colour}">{escape(name)}</text>')
    path.write_text("\n".join(out) + "\n</svg>\n")


def bars(path, title, unit, contenders, goal=None):
    """`contenders`: name to {min, median, max}."""
    left, height = 230, TOP + 30 * len(contenders) + BOTTOM
    most, step = nice(max([values["max"] for values in contenders.values()] + ([goal] if goal else [])))
    x_of = lambda x: left + (WIDTH - left - 70) * x / most
    out = head(title, WIDTH, height)
    for mark in range(int(most / step) + 1):
        x = x_of(mark * step)
        out.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="#ddd"/><text x="{x:.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{text(mark * step)}</text>')
    out.append(f'<text x="{(left + WIDTH - 70) / 2:.0f}" y="{height - 8}" text-anchor="middle">{escape(unit)}</text>')
    for number, (name, values) in enumerate(contenders.items()):
        y, colour = TOP + 30 * number, COLOURS[0] if name == "devenv" else "#aaa"
        out.append(f'<text x="{left - 8}" y="{y + 19}" text-anchor="end">{escape(name[:34])}</text>')
        out.append(f'<rect x="{left}" y="{y + 6}" width="{max(1, x_of(values["median"]) - left):.1f}" height="18" fill="{colour}"/>')
        out.append(f'<line x1="{x_of(values["min"]):.1f}" y1="{y + 15}" x2="{x_of(values["max"]):.1f}" y2="{y + 15}" stroke="#333"/>')
        out.append(f'<text x="{x_of(values["max"]) + 6:.1f}" y="{y + 19}">{text(values["median"])}</text>')
    if goal:
        out.append(f'<line x1="{x_of(goal):.1f}" y1="{TOP}" x2="{x_of(goal):.1f}" y2="{height - BOTTOM}" stroke="#d62728" stroke-dasharray="5 4"/>')
    path.write_text("\n".join(out) + "\n</svg>\n")
