"""The users of a broker and their permissions, through the management API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siamese.access.permissions import TEMPORARY
from siamese.access.standard_roles import KINDS
from siamese.messaging import management_api
from siamese.messaging.management_api import ManagementApi, part

OWN_TAG = 'siamese'  # marks users that roles.py made; it grants nothing


def put_user(api: ManagementApi, user: str, tags: Sequence[str], **secret: str) -> None:
    """Create a user, or change one.

    `secret` is a password, or a password_hash with its hashing_algorithm.
    """
    api.put(f'users/{part(user)}', {'tags': ','.join(tags), **secret})


def put_permissions(
    api: ManagementApi,
    vhost: str,
    user: str,
    patterns: Sequence[str],
) -> None:
    """Set the patterns to configure, write and read, in this order."""
    path = f'permissions/{part(vhost)}/{part(user)}'
    api.put(path, dict(zip(KINDS, patterns)))


def get_patterns(api: ManagementApi, vhost: str, user: str) -> list[str] | None:
    """Return the patterns to configure, write and read.

    Returns None for a user who may not use the virtual host.
    """
    found = find(api, f'permissions/{part(vhost)}/{part(user)}')
    if not found:
        return None
    return [found[kind] for kind in KINDS]


def find(api: ManagementApi, path: str) -> Any:
    """Return what the API has at `path`, None if there is nothing."""
    try:
        return api.get(path)
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


def is_own(user: dict[str, Any]) -> bool:
    """Return whether roles.py made a user."""
    return OWN_TAG in tags_of(user)


def own_users(api: ManagementApi, vhost: str) -> list[str]:
    """Return the users that roles.py made for a virtual host, and those a killed check left."""
    vhosts_of: dict[str, list[str]] = {}
    for permission in api.get('permissions'):
        vhosts_of.setdefault(permission['user'], []).append(permission['vhost'])
    found = []
    for user in api.get('users'):
        name = user['name']
        is_here = vhost in vhosts_of.get(name, [vhost])
        if is_here and (is_own(user) or name.startswith(TEMPORARY)):
            found.append(name)
    return sorted(found)


def remove(api: ManagementApi, vhost: str, user: str) -> list[str]:
    """Remove the permissions of a user on a virtual host, and then the user.

    A user who has permissions on other virtual hosts stays; returns those.
    """
    path = f'users/{part(user)}'
    held = [permission['vhost'] for permission in api.get(f'{path}/permissions')]
    others = [each for each in held if each != vhost]
    if not others:
        api.delete(path)
    elif vhost in held:
        api.delete(f'permissions/{part(vhost)}/{part(user)}')
    return others


def why_not_administrator(api: ManagementApi) -> str:
    """Return why the user of `api` may not create users, '' if it may."""
    try:
        tags = tags_of(api.get('whoami'))
    except management_api.Refused as refused:
        if refused.status not in (401, 403):
            raise
        return str(refused)
    if 'administrator' in tags:
        return ''
    if not tags:
        return 'it is not an administrator and has no tag'
    return f'it is not an administrator, but {",".join(tags)}'
