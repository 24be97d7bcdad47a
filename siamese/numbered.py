"""Message ids that hold a run and a number, so that one line can name many of them.

The perf pair has RUN-NUMBER-DUE, all of one length: 8 hex digits, 10 digits, and the
microseconds since 1970 at which the message was due. Other scripts have NAME-RUN-NUMBER.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby, repeat
from operator import itemgetter, lt
from typing import Any, NamedTuple

MESSAGE_ID = b'%b-%010d-%016d'
MESSAGE_ID_BYTES = 36
DUE_AT = 20
DUE_DIGITS = 16
DUE_PART = itemgetter(slice(DUE_AT, None))
RUN_PART = itemgetter(slice(0, 8))
NUMBER_AT = 9
NUMBER_PART = itemgetter(slice(NUMBER_AT, DUE_AT - 1))
NUMBER_DIGITS = 10
OUR_MESSAGE_ID = re.compile(rb'([0-9a-f]{8})-[0-9]{10}-([0-9]{16})')
OUR_MESSAGE_IDS = re.compile(rb'(?:[0-9a-f]{8}-[0-9]{10}-[0-9]{16})*')
FEW = 8  # ids with one due; up to here each id is looked at by itself
SHORT = frozenset(range(1, 10))  # digits of a number in NAME-RUN-NUMBER
NAMES = re.compile('([0-9a-f]{8})-([0-9]{10})-([0-9]{16})|(.*-)(0|[1-9][0-9]{0,8})', re.DOTALL)


Names = dict[str, Any]  # of, numbers or each, due: of a line that tells of many


class Name(NamedTuple):
    """The parts of a message id: `of` is what the ids of one run have in common."""

    of: str
    number: int
    due: int  # microseconds since 1970; 0 if the id does not hold it


def message_id(run: str, number: int, due: float) -> bytes:
    """Return the message_id of a message, always of the same length.

    `due` is in seconds since 1970.
    """
    return MESSAGE_ID % (run.encode(), number, int(due * 1e6))


def message_ids(run: str, numbers: range, due: float) -> list[bytes]:
    """Return the message_ids of messages that are all due at the same time."""
    template = MESSAGE_ID.replace(b'%010d', b'%%010d') % (run.encode(), int(due * 1e6))
    return [template % number for number in numbers]


def are_ours(message_ids: Sequence[bytes]) -> bool:
    """Return whether message_id() made these, which are of one length."""
    if len(message_ids[0]) != MESSAGE_ID_BYTES:
        return False
    return bool(OUR_MESSAGE_IDS.fullmatch(b''.join(message_ids)))


def parts(text: str) -> Name | None:
    """Return what a message id is made of; None if it holds no number."""
    found = NAMES.fullmatch(text)
    if not found:
        return None
    run, digits, due, head, number = found.groups()
    if run:
        return Name(run, int(digits), int(due))
    return Name(head, int(number), 0)


def name_of(of: str, number: int, due: int) -> str:
    """Return the message id that has these parts."""
    if due:
        return f'{of}-{number:010d}-{due:016d}'
    return f'{of}{number}'


# ---- many of them in one line of a ledger


def batches(message_ids: Sequence[bytes]) -> list[Names]:
    """Return what lines of a ledger say to name ids of one length, a line for each run.

    A line has them in their order. Empty if message_id() did not make all of them.
    """
    if len(message_ids[0]) != MESSAGE_ID_BYTES:
        return []
    joined = b''.join(message_ids)
    names = names_of_one_run(joined)
    if names:
        return [names]
    if not OUR_MESSAGE_IDS.fullmatch(joined):
        return []
    runs = dict.fromkeys(map(RUN_PART, message_ids))
    return [names_of(run, [one for one in message_ids if one.startswith(run)]) for run in runs]


def names_of_texts(message_ids: Sequence[str]) -> Names:
    """Return what a line says to name several ids that differ only behind their last dash.

    {} if it cannot name them: NAME-RUN-NUMBER with numbers of at most 9 digits it can.
    """
    of = message_ids[0][: message_ids[0].rfind('-') + 1]
    digits = [one[len(of) :] for one in message_ids]
    lengths = {*map(len, digits)}
    if len(message_ids) < 2 or not of or not lengths <= SHORT or not ''.join(digits).isdecimal():
        return {}
    numbers = [*map(int, digits)]
    if [*map(str, numbers)] != digits:  # zeros in front, digits of other scripts
        return {}
    return {'of': of, **packed_numbers(numbers), 'due': [0, len(numbers)]}


def names_of(run: bytes, message_ids: Sequence[bytes]) -> Names:
    """Return what a line says to name ids of a run, whatever their numbers and dues."""
    numbers = list(map(int, map(NUMBER_PART, message_ids)))
    dues = packed_dues(map(DUE_PART, message_ids))
    return {'of': run.decode(), **packed_numbers(numbers), 'due': dues}


def names_of_one_run(joined: bytes) -> Names:
    """Return names_of() ids that follow on each other, in less time.

    {} unless they are of one run, and many in a row have one due.
    """
    found: Names = {}
    while joined:
        names = names_of_one_due(joined)
        if not names or names['of'] != found.get('of', names['of']):
            return {}
        if found:
            extend(found, names)
        else:
            found = names
        joined = joined[names['due'][1] * MESSAGE_ID_BYTES :]
    return found


def names_of_one_due(joined: bytes) -> Names:
    """Return the names of those at the beginning that have one run and one due; {} if few have."""
    first = OUR_MESSAGE_ID.match(joined)
    if not first:
        return {}
    run, due = first.groups()
    count = joined.count(b'-' + due)
    alike = joined[: count * MESSAGE_ID_BYTES]
    numbers = alike[NUMBER_AT : -len(b'-' + due)].split(b'-%b%b-' % (due, run))
    is_theirs = len(numbers) == count and alike.endswith(due)
    is_theirs = is_theirs and {*map(len, numbers)} == {NUMBER_DIGITS}
    if count < FEW or not is_theirs or not b''.join(numbers).isdigit():
        return {}
    return {'of': run.decode(), **numbers_in(numbers), 'due': [int(due), count]}


def extend(names: Names, more: Names) -> None:
    """Let `names` of a line name those of `more`, too, of the same run, which came after them."""
    due, count, *others = more['due']
    dues = names['due']
    if due == dues[-2]:
        dues[-1] += count
        dues += others
    else:
        dues += more['due']
    if follows(more, names):
        names['numbers'][-1] = more['numbers'][-1]
    elif 'each' in names:
        names['each'] += unpacked_numbers(more)
    else:
        names['each'] = [*unpacked_numbers(names), *unpacked_numbers(more)]
        del names['numbers']


def follows(names: Names, others: Names) -> bool:
    """Return whether numbers without a gap follow on others without a gap."""
    if 'each' in names or 'each' in others:
        return False
    first: int = names['numbers'][0]
    return first == others['numbers'][-1] + 1


def only_name(names: Names) -> str:
    """Return the id of the only message that a line names, '' if it names several."""
    due, count, *others = names['due']
    if others or count > 1:
        return ''
    (number,) = unpacked_numbers(names)
    return name_of(names['of'], number, due)


def numbers_in(texts: Sequence[bytes]) -> dict[str, Sequence[int]]:
    """Return packed_numbers() of numbers with as many digits each."""
    ends = [int(texts[0]), int(texts[-1])]
    if ends[1] - ends[0] == len(texts) - 1 and all(map(lt, texts, texts[1:])):
        return {'numbers': ends}
    return {'each': list(map(int, texts))}


def packed_numbers(numbers: Sequence[int]) -> dict[str, Sequence[int]]:
    """Return `numbers` [first, last] if they follow on each other, else `each` of them."""
    first, last = numbers[0], numbers[-1]
    if last - first == len(numbers) - 1 and numbers == list(range(first, last + 1)):
        return {'numbers': [first, last]}
    return {'each': numbers}


def packed_dues(dues: Iterable[bytes | int]) -> list[int]:
    """Return [due, how many, due, how many ...]."""
    found = []
    for due, same in groupby(dues):
        found += [int(due), sum(1 for _ in same)]
    return found


def unpacked_numbers(names: Mapping[str, Any]) -> Sequence[int]:
    """Return the number of each message that a line names."""
    if 'each' in names:
        return in_steps(names['each'])
    ends = iter(names['numbers'])
    ranges = [range(first, last + 1) for first, last in zip(ends, ends)]
    if len(ranges) == 1:
        return ranges[0]
    return [*chain.from_iterable(ranges)]


def unpacked_dues(packed: Sequence[int]) -> list[int]:
    """Return the due of each message."""
    pairs = iter(packed)
    return [due for one, times in zip(pairs, pairs) for due in repeat(one, times)]


def in_steps(numbers: Sequence[int]) -> Sequence[int]:
    """Return numbers as a range if they are one: of two consumers each has every second one."""
    if isinstance(numbers, range):
        return numbers
    step = numbers[min(1, len(numbers) - 1)] - numbers[0]
    steps = range(numbers[0], numbers[-1] + 1, max(step, 1))
    if len(steps) == len(numbers) and numbers == [*steps]:
        return steps
    return numbers
