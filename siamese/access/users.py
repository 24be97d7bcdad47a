"""The users of a broker and their permissions, through the management API.

What roles.py made has the tag `siamese`. Where a broker drops tags that it does not know
(LavinMQ) a policy stands for it: it has the name of the user, and applies to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from siamese.access.permissions import TEMPORARY
from siamese.access.standard_roles import KINDS
from siamese.messaging import answers, management_api
from siamese.messaging.answers import Answer, text
from siamese.messaging.management_api import ManagementApi, part

OWN_TAG = 'siamese'  # marks users that roles.py made; it grants nothing
MARK = 'siamese.user:'  # begins the name of a policy that marks a user
NO_QUEUE = {
    'pattern': '^$',
    'apply-to': 'queues',
    'definition': {'max-length': 1_000_000_000},
    'priority': 0,
}


def put_user(
    api: ManagementApi,
    user: str,
    tags: Sequence[str],
    **secret: str,
) -> None:
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
    return [text(found, kind) for kind in KINDS]


def find(api: ManagementApi, path: str) -> Answer | None:
    """Return the object that the API has at `path`, None if there is nothing."""
    try:
        return answers.get_object(api, path)
    except management_api.Refused as refused:
        if refused.status != management_api.NOT_FOUND:
            raise
    return None


def tags_of(user: Answer) -> list[str]:
    """Return the tags of a user as the API shows it.

    Before RabbitMQ 3.9, and of LavinMQ, they are one string.
    """
    tags = user.get('tags')
    if isinstance(tags, str):
        return [tag.strip() for tag in tags.split(',') if tag.strip()]
    if isinstance(tags, list):
        return [tag for tag in tags if isinstance(tag, str)]
    return []


# ---- what is ours


def mark(api: ManagementApi, vhost: str, user: str) -> None:
    """Mark a user as made by roles.py where its tag does not."""
    made = answers.get_object(api, f'users/{part(user)}', needs='name')
    if OWN_TAG not in tags_of(made):
        api.put(mark_of(vhost, user), NO_QUEUE)


def mark_of(vhost: str, user: str) -> str:
    """Return the path of the policy that marks a user."""
    return f'policies/{part(vhost)}/{part(MARK + user)}'


def is_own(api: ManagementApi, user: Answer) -> bool:
    """Return whether roles.py made a user."""
    return OWN_TAG in tags_of(user) or text(user, 'name') in marked(api)


def marked(api: ManagementApi) -> set[str]:
    """Return the users that a policy marks, in whatever virtual host."""
    found = answers.get_list(api, 'policies', needs='name')
    names = [text(policy, 'name') for policy in found]
    return {name[len(MARK) :] for name in names if name.startswith(MARK)}


def own_users(api: ManagementApi, vhost: str) -> list[str]:
    """Return the users that roles.py made for a virtual host, and those a killed check left."""
    vhosts_of: dict[str, list[str]] = {}
    for permission in answers.get_list(api, 'permissions', needs='user'):
        vhosts_of.setdefault(text(permission, 'user'), []).append(text(permission, 'vhost'))
    with_mark = marked(api)
    found = []
    for user in answers.get_list(api, 'users', needs='name'):
        name = text(user, 'name')
        is_here = vhost in vhosts_of.get(name, [vhost])
        is_ours = OWN_TAG in tags_of(user) or name in with_mark or name.startswith(TEMPORARY)
        if is_here and is_ours:
            found.append(name)
    return sorted(found)


def remove(api: ManagementApi, vhost: str, user: str) -> list[str]:
    """Remove the permissions of a user on a virtual host, and then the user.

    A user who has permissions on other virtual hosts stays; returns those.
    """
    path = f'users/{part(user)}'
    permissions = answers.get_list(api, f'{path}/permissions')
    held = [text(permission, 'vhost') for permission in permissions]
    others = [each for each in held if each != vhost]
    if not others:
        api.delete(path)
    elif vhost in held:
        api.delete(f'permissions/{part(vhost)}/{part(user)}')
    if find(api, mark_of(vhost, user)):
        api.delete(mark_of(vhost, user))
    return others


def why_not_administrator(api: ManagementApi) -> str:
    """Return why the user of `api` may not create users, '' if it may."""
    try:
        tags = tags_of(answers.get_object(api, 'whoami'))
    except management_api.Refused as refused:
        if refused.status not in management_api.NOT_ALLOWED:
            raise
        return str(refused)
    if 'administrator' in tags:
        return ''
    if not tags:
        return 'it is not an administrator and has no tag'
    return f'it is not an administrator, but {",".join(tags)}'
