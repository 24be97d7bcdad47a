"""What people read: tables of text, times, and texts of strangers that cannot harm a terminal."""

import time


def printable(text):
    """Return text on one line, in which what is not printable is escaped: it cannot move the cursor of a terminal."""
    return ''.join(
        char if char.isprintable() else char.encode('unicode_escape').decode() for char in str(text)
    )


def table(heads, rows):
    """Return lines of text: a head, then `rows`, lists of values; numbers to the right, the last column open-ended."""
    cells = [
        heads,
        *(
            [f'{value:,}' if isinstance(value, int) else printable(value) for value in row]
            for row in rows
        ),
    ]
    right = [
        bool(rows) and all(isinstance(row[n], (int, float)) or row[n] in ('', '-') for row in rows)
        for n in range(len(heads))
    ]
    widths = [max(len(row[n]) for row in cells) for n in range(len(heads))]
    return [
        '  '.join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right)
        ).rstrip()
        for row in cells
    ]


def shorten(text, most=60):
    """Return text of so many characters at the most, as plain() does; an ellipsis stands for the rest."""
    text = printable(text)
    return text if len(text) <= most else text[: most - 1] + '…'


def count_of(number, noun):
    """Return how many there are of something: '1 message', '1,200 messages'."""
    return f'{number:,} {noun}{"" if number == 1 else "s"}'


def utc(at, form='%Y-%m-%d %H:%M:%S'):
    """Return a time as text in UTC, '-' for None."""
    return '-' if at is None else time.strftime(form, time.gmtime(at))


def duration(seconds):
    """Return a duration as people say it: '12 s', '3 min', '5 h', '2 d'."""
    for unit, size in (('d', 86400), ('h', 3600), ('min', 60)):
        if seconds >= 2 * size:
            return f'{seconds / size:.0f} {unit}'
    return f'{max(0, seconds):.0f} s'
