"""The four standard roles, as users of RabbitMQ and as scopes of a token.

docs/explanation/access.md explains tags and patterns, docs/explanation/claims.md the scopes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from siamese.access.permissions import OPERATIONS

# The resource_server_id of the broker. All its scopes begin with it.
RESOURCE_SERVER_ID = 'siamese'
KINDS = ('configure', 'write', 'read')  # of permissions, a pattern for each
NOTHING = '^$'
ANYTHING = '.*'
# The queue through which monitor.py receives the broker's events.
EVENT_QUEUE = r'^siamese\.events-'
IMPLIED_TAGS = {
    'monitoring': ['management'],
    'administrator': ['policymaker', 'monitoring', 'management'],
}


class Role(NamedTuple):
    """A standard role.

    The patterns are regular expressions for names. In the scopes, {} is the
    virtual host. `operations` are those of permissions.OPERATIONS that the role
    is allowed on queues and exchanges of check names.
    """

    tags: list[str]
    configure: str
    write: str
    read: str
    scopes: list[str]
    operations: set[str]

    @property
    def patterns(self) -> list[str]:
        """Return the patterns in the order of KINDS."""
        return [self.configure, self.write, self.read]


ROLES = {
    'subscriber': Role(
        tags=[],
        configure=NOTHING,
        write=NOTHING,
        read=ANYTHING,
        scopes=['read:{}/*'],
        operations={'connect', 'consume', 'get', 'purge'},
    ),
    'publisher': Role(
        tags=[],
        configure=NOTHING,
        write=ANYTHING,
        read=NOTHING,
        scopes=['write:{}/*'],
        operations={'connect', 'publish'},
    ),
    'monitoring': Role(
        tags=['monitoring'],
        configure=EVENT_QUEUE,
        write=EVENT_QUEUE,
        read=rf'{EVENT_QUEUE}|^siamese\.dead$|^amq\.rabbitmq\.event$',
        scopes=[
            'tag:monitoring',
            'configure:{}/siamese.events-*',
            'write:{}/siamese.events-*',
            'read:{}/siamese.events-*',
            'read:{}/siamese.dead',
            'read:{}/amq.rabbitmq.event',
        ],
        operations={'connect', 'read the API', 'see all nodes'},
    ),
    'administrator': Role(
        tags=['administrator'],
        configure=ANYTHING,
        write=ANYTHING,
        read=ANYTHING,
        scopes=[
            'tag:administrator',
            'configure:{}/*',
            'write:{}/*',
            'read:{}/*',
        ],
        operations=set(OPERATIONS),
    ),
}


class Grant(NamedTuple):
    """A role on a virtual host, or on all of them (None)."""

    role: str
    vhost: str | None


# What grants what: {(attribute, value): [Grant, ...]}.
GrantMap = Mapping['tuple[str, str]', Sequence[Grant]]


def grants_of(
    attributes: Mapping[str, Sequence[str]],
    grant_map: GrantMap,
) -> list[Grant]:
    """Return what a subject with these attributes is granted."""
    granted: list[Grant] = []
    for (attribute, value), grants in grant_map.items():
        if value in attributes.get(attribute, ()):
            granted.extend(grants)
    return granted


def scopes_of(grants: Iterable[Grant]) -> list[str]:
    """Return the scopes that grants come to, each of them once."""
    scopes: list[str] = []
    for role, vhost in grants:
        where = '*'
        if vhost is not None:
            where = quote(vhost, safe='')
        scopes.extend(scope.format(where) for scope in ROLES[role].scopes)
    return [f'{RESOURCE_SERVER_ID}.{scope}' for scope in dict.fromkeys(scopes)]


# ---- comparing a user with its role


def deviations_of(role: str, refusals: Mapping[str, str]) -> list[str]:
    """Return a line for each operation whose result is not that of the role.

    `refusals` says why each operation was refused, '' if it was allowed.
    """
    lines = []
    for operation, refusal in refusals.items():
        expected = operation in ROLES[role].operations
        if refusal and expected:
            lines.append(f'{role}: missing permission: {operation} is refused ({refusal})')
            if operation == 'connect':
                break  # without a connection, all others are refused as well
        elif not refusal and not expected:
            lines.append(f'{role}: unexpected permission: {operation} is allowed')
    return lines


def unexpected_tags(role: str, tags: Sequence[str]) -> list[str]:
    """Return a line for each tag that neither the role nor its tags imply."""
    usual = set(ROLES[role].tags)
    for tag in ROLES[role].tags:
        usual.update(IMPLIED_TAGS[tag])
    return [f'{role}: unexpected permission: the tag {tag!r}' for tag in tags if tag not in usual]


def different_patterns(role: str, patterns: Sequence[str]) -> list[str]:
    """Return a line for each pattern, in the order of KINDS, that differs."""
    lines = []
    for kind, pattern, expected in zip(KINDS, patterns, ROLES[role].patterns):
        pattern = pattern or NOTHING
        if pattern == expected:
            continue
        what = f'the pattern {pattern!r} for {kind}'
        if expected == ANYTHING or pattern == NOTHING:
            lines.append(f'{role}: missing permission: {what} is narrower than {expected!r}')
        else:
            lines.append(f'{role}: unexpected permission: {what}, expected {expected!r}')
    return lines
