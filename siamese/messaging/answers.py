"""What the management API answers, held against what it should be.

Every answer passes here before anything else looks at it: whoever answers may be a
proxy, another version, or no broker at all. What has another shape raises Strange;
a figure that is missing, or is none, is None: unknown.
"""

from __future__ import annotations

import json
import math
from typing import Any

from siamese.messaging.management_api import (
    NOT_ALLOWED,
    NOT_FOUND,
    ManagementApi,
    Refused,
    part,
)
from siamese.text import shorten

Answer = dict[str, Any]  # an object of the management API

MOST = 2**53  # no counter is larger: JSON and SQLite hold it exactly
NOTHING: Answer = {}
LONGEST_SAMPLE = 80  # characters of a strange answer
DECODED = (
    'a proxy in between turns the %2F of its name into /; let it pass paths as they are'
    ' (nginx: proxy_pass without a path; Apache: AllowEncodedSlashes NoDecode, nocanon)'
)


class Strange(Refused):
    """The API answers something that it should not."""


def get_object(api: ManagementApi, path: str, needs: str = '') -> Answer:
    """Return the object at a path, which has the text `needs`; raise Refused."""
    answer = api.get(path)
    if isinstance(answer, dict) and 'error' not in answer and _is_named(answer, needs):
        return answer
    raise _strange(api, path, answer, f'no object{_with_name(needs)}')


def get_list(api: ManagementApi, path: str, needs: str = '') -> list[Answer]:
    """Return the objects at a path, each of which has the text `needs`; raise Refused.

    An object that has none of the columns asked for comes as an empty list.
    """
    answer = api.get(path)
    if not isinstance(answer, list):
        raise _strange(api, path, answer, 'no list')
    found = [NOTHING if each == [] else each for each in answer]
    for each in found:
        if not isinstance(each, dict) or not _is_named(each, needs):
            what = f'a list of other things than objects{_with_name(needs)}'
            raise _strange(api, path, each, what)
    return found


def get_vhost(api: ManagementApi, name: str) -> Answer:
    """Return a virtual host; raise Refused, with the status 404 if there is none.

    The name of the usual one is a slash, which not every proxy lets through.
    """
    try:
        return get_object(api, f'vhosts/{part(name)}', needs='name')
    except Refused as refused:
        if refused.status in NOT_ALLOWED:
            return _listed_vhost(api, name, refused)
        may_be_decoded = isinstance(refused, Strange) or refused.status == NOT_FOUND
        if '/' not in name or not may_be_decoded:
            raise
        listed = [text(row, 'name') for row in get_list(api, 'vhosts?columns=name', needs='name')]
        if name not in listed:
            raise
        where = f'the management API at {api.base}'
        raise Refused(
            f'{where} lists virtual host {name} but does not find it: {DECODED}', 0
        ) from None


def _listed_vhost(api: ManagementApi, name: str, refused: Refused) -> Answer:
    """Return a virtual host from the list.

    RabbitMQ lets only administrators ask for one by its name; others see theirs there.
    """
    for row in get_list(api, 'vhosts?columns=name,message_stats', needs='name'):
        if text(row, 'name') == name:
            return row
    raise refused


def _is_named(answer: Answer, needs: str) -> bool:
    return not needs or isinstance(answer.get(needs), str)


def _with_name(needs: str) -> str:
    return f' with a {needs}' if needs else ''


def _strange(api: ManagementApi, path: str, found: object, instead: str) -> Strange:
    """Return the error that quotes what was found."""
    where = path.partition('?')[0]
    sample = shorten(json.dumps(found, ensure_ascii=False), LONGEST_SAMPLE)
    why = f'answers {instead} at {where}, but {sample}'
    remedy = 'is that the API of this broker? see --management-url'
    return Strange(f'the management API at {api.base} {why}; {remedy}', 0)


# ---- what stands in an object


def text(answer: Answer, key: str, default: str = '') -> str:
    """Return a text that UTF-8 can hold, else `default`."""
    found = answer.get(key)
    if not isinstance(found, str):
        return default
    return found.encode(errors='backslashreplace').decode()


def number(answer: Answer, key: str) -> float | None:
    """Return a number that is not negative, else None."""
    found = answer.get(key)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    if not 0 <= found <= MOST or math.isnan(found):
        return None
    return found


def count(answer: Answer, key: str) -> int | None:
    """Return a whole number that is not negative, else None."""
    found = number(answer, key)
    return None if found is None else int(found)


def flag(answer: Answer, key: str) -> bool | None:
    """Return true or false, else None."""
    found = answer.get(key)
    return found if isinstance(found, bool) else None


def inner(answer: Answer, key: str) -> Answer:
    """Return an object within an object, an empty one if there is none.

    Where it knows nothing the API gives an empty list.
    """
    found = answer.get(key)
    return found if isinstance(found, dict) else NOTHING
