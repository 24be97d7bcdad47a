"""Numbers, times and message bodies as text for people, and sparklines.

Nothing here needs NiceGUI.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Optional

from siamese.monitoring.queues import RATE_WINDOW_S, Sample
from siamese.text import UNKNOWN, duration, printable

SHOWN_BYTES = {  # of a body
    'Text': 65_536,
    'JSON': 65_536,
    'Hex': 4_096,
}
SLOT_S = 10  # a line has one point in each
SPARK_SLOT_S = 15
SPARK_SLOTS = 60
SPARK_WIDTH_PX = 120
SPARK_HEIGHT_PX = 26
SPARK_MARGIN_PX = 2  # above and below the line

Point = tuple[float, Optional[float]]  # when, and how much; None is a gap


# ---- numbers and times


def count(number: int | None) -> str:
    return UNKNOWN if number is None else f'{number:,}'


def size(number_of_bytes: int) -> str:
    if number_of_bytes < 10_000:
        return f'{number_of_bytes:,} B'
    return f'{number_of_bytes / 1000:,.0f} kB'


def since(at: float | None, now: float) -> str:
    """Return how long ago a time was, '' for None."""
    if at is None:
        return ''
    return f'{duration(now - at)} ago'


def rate(per_second: float | None) -> str:
    """Return a rate as people read it: 0, 0.25, 7.3, 1,234."""
    if per_second is None:
        return UNKNOWN
    if per_second == 0 or per_second >= 100:
        return f'{per_second:,.0f}'
    if per_second >= 1:
        return f'{per_second:.1f}'
    return f'{per_second:.2g}'


# ---- bodies of messages


def visible(text: str) -> str:
    """Return a text of several lines with its invisible characters escaped.

    Characters that change the reading direction are escaped too.
    """
    return ''.join(map(visible_character, text))


def visible_character(character: str) -> str:
    if character in '\n\t':
        return character
    return printable(character)


def forms(body: bytes) -> tuple[dict[str, str], str]:
    """Return the ways to show a body, the best one first, and a remark.

    The ways are {'Text' | 'JSON' | 'Hex': text}.
    """
    beginning = body[: SHOWN_BYTES['Text']]
    hexadecimal = hex_dump(body[: SHOWN_BYTES['Hex']])
    try:
        body.decode()
    except UnicodeDecodeError as error:
        text = beginning.decode(errors='backslashreplace')
        shown = {'Hex': hexadecimal, 'Text': visible(text)}
        return shown, f'not UTF-8 at byte {error.start:,}'
    text = beginning.decode(errors='ignore')
    shown = {'Text': visible(text), 'Hex': hexadecimal}
    indented = indented_json(body)
    if indented:
        shown = {'JSON': visible(indented), **shown}
    if not body:
        return shown, 'empty'
    return shown, 'UTF-8'


def indented_json(body: bytes) -> str:
    """Return a JSON object or array on several lines.

    Return '' if the body is not one, is an empty one, or is too large.
    """
    if not body.startswith((b'{', b'[')):
        return ''
    if len(body) > SHOWN_BYTES['JSON']:
        return ''
    try:
        value = json.loads(body)
        if not value:
            return ''
        return json.dumps(value, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ''


def hex_dump(body: bytes) -> str:
    """Return lines of offset, 16 bytes in hexadecimal, and their ASCII."""
    lines = []
    for offset in range(0, len(body), 16):
        row = body[offset : offset + 16]
        left = row[:8].hex(' ')
        right = row[8:].hex(' ')
        ascii_part = ''.join(map(ascii_character, row))
        lines.append(f'{offset:08x}  {left:23}  {right:23}  {ascii_part}')
    return '\n'.join(lines)


def ascii_character(byte: int) -> str:
    if 32 <= byte < 127:
        return chr(byte)
    return '.'


# ---- rates over time


def smooth(samples: Sequence[Sample], gap_s: float) -> list[Sample]:
    """Return samples of queues.samples() with mean rates over RATE_WINDOW_S.

    RabbitMQ updates its counters every 5 s: single collections see them
    stand still, and then jump. The first sample after a gap is left out: its rates
    are means over the gap.
    """
    smoothed: list[Sample] = []
    first = 0  # of the window
    for number, sample in enumerate(samples):
        if number and sample.at - samples[number - 1].at > gap_s:
            first = number + 1
            continue
        while samples[first].at <= sample.at - RATE_WINDOW_S:
            first += 1
        window = samples[first : number + 1]
        smoothed.append(with_mean_rates(sample, window))
    return smoothed


def with_mean_rates(sample: Sample, window: Sequence[Sample]) -> Sample:
    number = len(window)
    return Sample(
        at=sample.at,
        ready=sample.ready,
        unacked=sample.unacked,
        publish_rate=sum([each.publish_rate for each in window]) / number,
        deliver_rate=sum([each.deliver_rate for each in window]) / number,
        ack_rate=sum([each.ack_rate for each in window]) / number,
    )


def with_gaps(points: Iterable[Point], gap_s: float) -> list[Point]:
    """Return points of a line, one for each slot; a None is where it has a gap."""
    latest = {at // SLOT_S: (at, value) for at, value in points}
    found: list[Point] = []
    for at, value in latest.values():
        if found and at - found[-1][0] > gap_s:
            middle = (at + found[-1][0]) / 2
            found.append((middle, None))
        found.append((at, value))
    return found


def spark(points: Iterable[Point], now: float) -> str:
    """Return the SVG path of values >= 0 over the last SPARK_SLOTS, up to now."""
    slots: dict[int, list[float]] = {}
    gaps = set()  # slots after which the line begins anew
    for at, value in points:
        slot = int(at // SPARK_SLOT_S)
        if value is None:
            gaps.add(slot)
        else:
            slots.setdefault(slot, []).append(value)
    bottom = SPARK_HEIGHT_PX - SPARK_MARGIN_PX
    height = SPARK_HEIGHT_PX - 2 * SPARK_MARGIN_PX
    first = int(now // SPARK_SLOT_S) - SPARK_SLOTS
    peak = max(map(max, slots.values()), default=0) or 1
    path = ''
    before = first
    for slot, values in slots.items():
        x = (slot - first) * SPARK_WIDTH_PX // SPARK_SLOTS
        y = bottom - max(values) / peak * height
        command = 'L'
        if not path or gaps.intersection(range(before, slot)):
            command = 'M'
        path += f'{command}{x} {y:.0f}'
        before = slot
    return path
