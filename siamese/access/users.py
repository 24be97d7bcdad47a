"""The users of a broker and their permissions, through the management API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siamese.access.permissions import Call
from siamese.access.standard_roles import KINDS
from siamese.messaging import management_api
from siamese.messaging.management_api import part

OWN_TAG = 'siamese'  # marks users that roles.py made; it grants nothing


def put_user(call: Call, user: str, tags: Sequence[str], **secret: str) -> None:
    """Create a user, or change one.

    `secret` is a password, or a password_hash with its hashing_algorithm.
    """
    call(f'users/{part(user)}', 'PUT', {'tags': ','.join(tags), **secret})


def put_permissions(
    call: Call,
    vhost: str,
    user: str,
    patterns: Sequence[str],
) -> None:
    """Set the patterns to configure, write and read, in this order."""
    path = f'permissions/{part(vhost)}/{part(user)}'
    call(path, 'PUT', dict(zip(KINDS, patterns)))


def get_patterns(call: Call, vhost: str, user: str) -> list[str] | None:
    """Return the patterns to configure, write and read.

    Returns None for a user who may not use the virtual host.
    """
    found = find(call, f'permissions/{part(vhost)}/{part(user)}')
    if not found:
        return None
    return [found[kind] for kind in KINDS]


def find(call: Call, path: str) -> Any:
    """Return what the API has at `path`, None if there is nothing."""
    try:
        return call(path)
    except management_api.Refused as refused:
        if refused.status != 404:
            raise
    return None


def tags_of(user: dict[str, Any]) -> list[str]:
    """Return the tags of a user as the API shows it.

    Before RabbitMQ 3.9 they are one string.
    """
    tags = user['tags']
    if isinstance(tags, str):
        return [tag for tag in tags.split(',') if tag]
    return list(tags)


def why_not_administrator(call: Call) -> str:
    """Return why the user of `call` may not create users, '' if it may."""
    try:
        tags = tags_of(call('whoami'))
    except management_api.Refused as refused:
        if refused.status not in (401, 403):
            raise
        return str(refused)
    if 'administrator' in tags:
        return ''
    if not tags:
        return 'it is not an administrator and has no tag'
    return f'it is not an administrator, but {",".join(tags)}'
