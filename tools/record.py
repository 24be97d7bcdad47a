#!/usr/bin/env python3
"""Record make demo on a terminal of its own, and write it as a moving SVG picture.

    python tools/record.py docs/images/demo.svg

It is a real run. Where nothing moves for longer than PAUSE_S the picture waits no
longer than that, and at the end it rests. It needs no script: CSS moves a strip of
frames. Who has asked for less motion, and paper, get the last frame. See make demo-svg.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import pyte

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, 'demos/story.py', '--color', 'always')
PROMPT = b'$ make demo\r\n'
COLUMNS = 80
LINES = 36
FRAME_S = 0.25  # at most so many are kept
PAUSE_S = 1.0
REST_S = 8.0

CELL_WIDTH = 8.4  # px
CELL_HEIGHT = 19
MARGIN = 16
BACKGROUND = '#16181d'
COLOURS = {  # as pyte calls them
    'default': '#d6d9df',
    'red': '#ff8080',
    'green': '#7ee2a8',
    'brown': '#f2c55c',
    'cyan': '#7cc7e8',
}
STYLE = """
text {{ font: 14px 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre }}
#film {{ transform: translateX({last}px); animation: film {length:.2f}s steps(1, end) infinite }}
@keyframes film {{ {keyframes} }}
@media print, (prefers-reduced-motion: reduce) {{ #film {{ animation: none }} }}
"""
ALT = (
    'make demo: two producers and two validators at work, the broker is killed and comes back, '
    'and the verdict is valid'
)


class Frame(NamedTuple):
    """What stands on the screen, as SVG by line, and for how long."""

    lines: tuple[str, ...]
    seconds: float


def record(command: tuple[str, ...]) -> list[tuple[float, bytes]]:
    """Run a command on a terminal; return what it showed, and when (s)."""
    terminal, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack('HHHH', LINES, COLUMNS, 0, 0))
    environment = {**os.environ, 'TERM': 'xterm-256color', 'AMQP_URL': ''}
    began = time.monotonic()
    shown = [(0.0, PROMPT)]
    with subprocess.Popen(
        command, stdin=its_end, stdout=its_end, stderr=its_end, cwd=ROOT, env=environment
    ) as process:
        os.close(its_end)
        for data in iter(lambda: read(terminal), b''):
            shown.append((time.monotonic() - began, data))  # noqa: PERF401 - as it comes
    os.close(terminal)
    if process.returncode:
        sys.exit(f'the demo ended with status {process.returncode}')
    return shown


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the command has ended
        return b''


def frames_of(shown: list[tuple[float, bytes]]) -> list[Frame]:
    """Return the frames of a record, each different from the one before."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    pictures: list[tuple[float, tuple[str, ...]]] = []
    for number, (at, data) in enumerate(shown):
        stream.feed(data)
        is_last = number == len(shown) - 1
        if pictures and at < pictures[-1][0] + FRAME_S and not is_last:
            continue
        lines = tuple(svg_line(screen, line) for line in range(LINES))
        if not pictures or lines != pictures[-1][1]:
            pictures.append((at, lines))
    ends = [at for at, _ in pictures[1:]]
    frames = [Frame(lines, min(PAUSE_S, end - at)) for (at, lines), end in zip(pictures, ends)]
    return [*frames, Frame(pictures[-1][1], REST_S)]


def svg_line(screen: pyte.Screen, number: int) -> str:
    """Return a line of the screen as SVG, '' if it is blank."""
    cells = [screen.buffer[number][column] for column in range(COLUMNS)]
    parts = []
    column = 0
    for (colour, bold), run in groupby(cells, lambda cell: (cell.fg, cell.bold)):
        text = ''.join(cell.data for cell in run)
        if text.strip():
            parts.append(svg_run(text, column, colour, bold))
        column += len(text)
    return ''.join(parts)


def svg_run(text: str, column: int, colour: str, bold: bool) -> str:
    """Return characters of one style."""
    stripped = text.strip()
    column += len(text) - len(text.lstrip())
    weight = ' font-weight="bold"' if bold else ''
    return (
        f'<tspan x="{column * CELL_WIDTH:.1f}" textLength="{len(stripped) * CELL_WIDTH:.1f}" '
        f'fill="{COLOURS.get(colour, COLOURS["default"])}"{weight}>{escape(stripped)}</tspan>'
    )


def svg_of(frames: list[Frame]) -> Iterator[str]:
    """Yield the lines of the picture."""
    width = round(COLUMNS * CELL_WIDTH + 2 * MARGIN)
    height = LINES * CELL_HEIGHT + 2 * MARGIN
    length = sum(frame.seconds for frame in frames)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    yield f'<title>{escape(ALT)}</title>'
    last = (1 - len(frames)) * width
    keyframes = ' '.join(keyframes_of(frames, length, width))
    yield f'<style>{STYLE.format(last=last, length=length, keyframes=keyframes)}</style>'
    yield f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>'
    known = dict.fromkeys(line for frame in frames for line in frame.lines if line)
    names = {line: f'l{number}' for number, line in enumerate(known)}
    yield '<defs>'
    for line, name in names.items():
        yield f'<text id="{name}">{line}</text>'
    yield '</defs><g id="film">'
    for number, frame in enumerate(frames):
        yield f'<g transform="translate({number * width + MARGIN} {MARGIN})">'
        for row, line in enumerate(frame.lines, 1):
            if line:
                yield f'<use href="#{names[line]}" y="{row * CELL_HEIGHT}"/>'
        yield '</g>'
    yield '</g></svg>'


def keyframes_of(frames: list[Frame], length: float, width: int) -> Iterator[str]:
    """Yield when each frame begins, in percent of the length."""
    at = 0.0
    for number, frame in enumerate(frames):
        yield f'{100 * at / length:.3f}% {{ transform: translateX({-number * width}px) }}'
        at += frame.seconds


def main() -> None:
    (path,) = sys.argv[1:]
    frames = frames_of(record(COMMAND))
    text = '\n'.join(svg_of(frames)) + '\n'
    Path(path).write_text(text, encoding='utf-8')
    seconds = sum(frame.seconds for frame in frames)
    print(f'{path}  {len(frames)} frames, {seconds:.0f} s, {len(text) / 1000:.0f} kB')


if __name__ == '__main__':
    main()
