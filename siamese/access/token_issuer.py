"""From the claims of an assertion to a token for RabbitMQ's OAuth 2 backend.

The token is a JWT (RS256). The HTTP around it is in token_endpoint.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from siamese.access import saml
from siamese.access.saml import AssertionRefused
from siamese.access.standard_roles import (
    RESOURCE_SERVER_ID,
    ROLES,
    Grant,
    GrantMap,
    grants_of,
    scopes_of,
)

KEY_FILE = re.compile(r'k([1-9][0-9]*)\.pem')
MIN_KEY_BITS = 2048
FOR_OTHERS = 0o077  # in the mode of a file
KEEP_USED_S = 86_400  # clocks are off by less
LOCK_WAIT_S = 0.1  # others write a line in less
TEXT_FIELDS = {'issuer', 'certificates', 'audience', 'recipient'}
GRANT_FIELDS = {'attribute', 'value', 'role'}


class Policy(NamedTuple):
    """Whom to trust, and which claim grants what."""

    trust: saml.Trust
    grant_map: GrantMap


class IssuedToken(NamedTuple):
    """A token, and `description`, one line about it for the log."""

    text: str
    lifetime_s: int
    scope: str
    description: str


# ---- the policy


def read_policy(path: str) -> Policy:
    """Read a claims.json, see docs/explanation/claims.md.

    Raises OSError or ValueError, which says what is wrong with it.
    """
    with open(path, encoding='utf-8') as file:
        fields = json.load(file)
    check_fields(fields)
    grant_map = read_grants(fields['roles'])
    folder = os.path.dirname(path)
    certificates = read_certificates(os.path.join(folder, fields['certificates']))
    trust = saml.Trust(
        certificates=certificates,
        issuer=fields['issuer'],
        audience=fields['audience'],
        recipient=fields['recipient'],
    )
    return Policy(trust, grant_map)


def check_fields(fields: Any) -> None:
    """Raise ValueError unless decoded JSON has the fields of a policy."""
    expected = {*TEXT_FIELDS, 'roles'}
    if (
        not isinstance(fields, dict)
        or set(fields) != expected
        or not isinstance(fields['roles'], list)
    ):
        names = ', '.join(sorted(expected))
        raise ValueError(f'expected an object with {names}')
    if not all(isinstance(fields[name], str) for name in TEXT_FIELDS):
        raise ValueError('all fields but roles must be text')


def read_grants(lines: list[Any]) -> GrantMap:
    """Return the grants in the list `roles` of a policy; raise ValueError."""
    grant_map: dict[tuple[str, str], list[Grant]] = {}
    for line in lines:
        if not is_grant(line):
            raise ValueError(
                'in roles, not attribute, value, role and maybe vhost: ' + json.dumps(line)
            )
        role = line['role']
        if role not in ROLES:
            known = ', '.join(ROLES)
            raise ValueError(f'there is no role {role!r}, but {known}')
        claim = (line['attribute'], line['value'])
        grant = Grant(role, line.get('vhost'))
        grant_map.setdefault(claim, []).append(grant)
    return grant_map


def is_grant(line: Any) -> bool:
    if not isinstance(line, dict):
        return False
    if set(line) - {'vhost'} != GRANT_FIELDS:
        return False
    return all(isinstance(value, str) for value in line.values())


def read_certificates(path: str) -> list[str]:
    """Return the certificates of a PEM file, each as PEM."""
    with open(path, 'rb') as file:
        certificates = x509.load_pem_x509_certificates(file.read())
    pem = serialization.Encoding.PEM
    return [each.public_bytes(pem).decode() for each in certificates]


# ---- the keys


def new_key(folder: str) -> str:
    """Make the next key, k1.pem, k2.pem ... and its public half, k1.pub ...

    Returns the key ID (kid).
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    private = rsa.generate_private_key(65537, MIN_KEY_BITS)
    with locked(folder):
        number = 1 + max(key_numbers(folder), default=0)
        kid = f'k{number}'
        with open(f'{folder}/{kid}.pub', 'wb') as file:
            file.write(public_pem(private))
        with open_private(f'{folder}/{kid}.new', os.O_TRUNC) as file:
            file.write(private_pem(private))
        # Renamed when complete: a running server reads this folder.
        os.rename(f'{folder}/{kid}.new', f'{folder}/{kid}.pem')
    return kid


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keep others from making a key in a folder at the same time."""
    with open_private(f'{folder}/new-key.lock') as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        yield


def open_private(path: str, more_flags: int = 0) -> BinaryIO:
    """Open a file for writing that nobody else can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | more_flags, 0o600)
    return open(descriptor, 'wb')


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    )


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def key_numbers(folder: str) -> list[int]:
    """Return the numbers of the keys in a folder, the newest first."""
    matches = [KEY_FILE.fullmatch(name) for name in os.listdir(folder)]
    numbers = [int(match[1]) for match in matches if match]
    return sorted(numbers, reverse=True)


def load_keys(folder: str) -> dict[str, rsa.RSAPrivateKey]:
    """Return the private keys of a folder by key ID, the newest first.

    Raises OSError, or ValueError for a file that does not hold such a key.
    """
    keys = {}
    for number in key_numbers(folder):
        path = f'{folder}/k{number}.pem'
        status = os.stat(path)
        if stat.S_IMODE(status.st_mode) & FOR_OTHERS:
            raise ValueError(f'{path} is open to other users: chmod 600')
        keys[f'k{number}'] = load_key(path, status.st_mtime_ns)
    return keys


@lru_cache(maxsize=64)
def load_key(path: str, _changed: int) -> rsa.RSAPrivateKey:
    """Return the key in a file; `_changed` tells the cache of a new one."""
    with open(path, 'rb') as file:
        pem = file.read()
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(
            f'{path} is not a private key in PEM, or it is encrypted',
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < MIN_KEY_BITS:
        raise ValueError(f'{path} is not an RSA key of {MIN_KEY_BITS} bits or more')
    return key


def newest_key(folder: str) -> tuple[str, rsa.RSAPrivateKey]:
    """Return the key that signs, with its key ID."""
    for kid, key in load_keys(folder).items():
        return kid, key
    raise ValueError(f'there is no key in {folder}')


# ---- the token


def remember_use(folder: str, claims: saml.Claims, now: float) -> None:
    """Remember on disk that an assertion was used, for as long as it is valid and KEEP_USED_S.

    The clock may have been ahead when another one was used. Raises AssertionRefused if it
    was used before.
    """
    path = f'{folder}/used.db'
    valid_until = claims.expires + saml.CLOCK_SKEW_S
    with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as database, database:
        database.execute(
            'CREATE TABLE IF NOT EXISTS used (id TEXT PRIMARY KEY, until INTEGER)',
        )
        database.execute('DELETE FROM used WHERE until < ?', [now - KEEP_USED_S])
        inserted = database.execute(
            'INSERT OR IGNORE INTO used VALUES (?, ?)',
            [claims.id, valid_until],
        )
        if not inserted.rowcount:
            raise AssertionRefused('this assertion was used before')


def issue_token(
    assertion: str,
    policy: Policy,
    folder: str,
    lifetime_s: int,
    now: float,
) -> IssuedToken:
    """Return a token for an assertion in base64url.

    `now` is in s since 1970. Raises AssertionRefused, and OSError, ValueError
    or sqlite3.Error if the keys or the disk of this server are at fault.
    """
    claims = saml.verify(saml.decode(assertion), policy.trust, now)
    grants = grants_of(claims.attributes, policy.grant_map)
    if not grants:
        raise AssertionRefused(
            f'no role for {claims.subject!a}: none of its attributes is in the map',
        )
    kid, key = newest_key(folder)
    remember_use(folder, claims, now)
    issued_at = int(now)
    expires = min(issued_at + lifetime_s, claims.expires + saml.CLOCK_SKEW_S)
    scope = ' '.join(scopes_of(grants))
    payload = {
        'iss': policy.trust.audience,
        'sub': claims.subject,
        'aud': [RESOURCE_SERVER_ID],
        'scope': scope,
        'iat': issued_at,
        'exp': expires,
    }
    text = jwt.encode(payload, key, 'RS256', {'kid': kid})
    seconds = expires - issued_at
    return IssuedToken(
        text=text,
        lifetime_s=seconds,
        scope=scope,
        description=describe(claims.subject, grants, seconds, kid),
    )


def describe(subject: str, grants: list[Grant], seconds: int, kid: str) -> str:
    roles = ', '.join(dict.fromkeys(grant.role for grant in grants))
    return f'{subject!a} is {roles} for {seconds} s, signed with {kid}'
