"""From the claims in assertions to a token (JWT) for RabbitMQ's OAuth 2 backend, and the HTTP around it: RFC 7522."""

import asyncio
import json
import logging
import os
import re
import sqlite3
import time
from collections import Counter, namedtuple
from contextlib import closing
from functools import lru_cache
from urllib.parse import parse_qsl, quote

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Route
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from siamese.access import saml
from siamese.access.saml import Refused

BROKER = 'siamese'  # the resource_server_id of the broker, which is in all its scopes
ROLES = {  # as in roles.py; {} is the virtual host
    'subscriber': ['read:{}/*'],
    'publisher': ['write:{}/*'],
    'monitoring': [
        'tag:monitoring',
        'configure:{}/siamese.events-*',
        'write:{}/siamese.events-*',
        'read:{}/siamese.events-*',
        'read:{}/siamese.dead',
        'read:{}/amq.rabbitmq.event',
    ],
    'administrator': ['tag:administrator', 'configure:{}/*', 'write:{}/*', 'read:{}/*'],
}
GRANT = 'urn:ietf:params:oauth:grant-type:saml2-bearer'
MAX_FORM = 100_000  # bytes; saml.LARGEST in base64, and the rest
LIFE, MOST, BURST = (
    20,
    64,
    32,
)  # of connections: s that one lasts, how many there are, how many are accepted at once
OUR_FAULT = (OSError, ValueError, sqlite3.Error)  # our keys, our disk
KEY_FILE = re.compile(r'k([1-9][0-9]*)\.pem')

# trust: a saml.Trust; roles: {(attribute, value): [(role, virtual host)]}.
Policy = namedtuple('Policy', 'trust roles')


class Wrong(Exception):
    """A request that is answered with one of OAuth's errors; `args` are this and the reason."""


def policy(path):
    """Return the Policy in a file, see docs/claims.md; raise OSError or ValueError with what is wrong with it."""
    with open(path, encoding='utf-8') as file:
        told = json.load(file)
    fields = {'issuer', 'certificates', 'audience', 'recipient', 'roles'}
    if not isinstance(told, dict) or set(told) != fields or not isinstance(told['roles'], list):
        raise ValueError(f'expected an object with {", ".join(sorted(fields))}')
    if not all(isinstance(told[field], str) for field in fields - {'roles'}):
        raise ValueError('all but roles is to be text')
    roles = {}
    for line in told['roles']:
        if (
            not isinstance(line, dict)
            or not {'attribute', 'value', 'role'}
            <= set(line)
            <= {'attribute', 'value', 'role', 'vhost'}
            or not all(isinstance(value, str) for value in line.values())
        ):
            raise ValueError(
                f'in roles, not attribute, value, role and maybe vhost: {json.dumps(line)}'
            )
        if line['role'] not in ROLES:
            raise ValueError(f'there is no role {line["role"]!r}, but {", ".join(ROLES)}')
        roles.setdefault((line['attribute'], line['value']), []).append(
            (line['role'], line.get('vhost'))
        )
    with open(os.path.join(os.path.dirname(path), told['certificates']), 'rb') as file:
        certificates = [
            certificate.public_bytes(serialization.Encoding.PEM).decode()
            for certificate in x509.load_pem_x509_certificates(file.read())
        ]
    return Policy(
        saml.Trust(certificates, told['issuer'], told['audience'], told['recipient']), roles
    )


def scopes_of(attributes, roles):
    """Return what {attribute: [values]} gives by the roles of a Policy: the names of the roles and the scopes."""
    granted = [
        grant
        for (attribute, value), grants in roles.items()
        if value in attributes.get(attribute, ())
        for grant in grants
    ]
    scopes = [
        f'{BROKER}.' + scope.format('*' if vhost is None else quote(vhost, safe=''))
        for role, vhost in granted
        for scope in ROLES[role]
    ]
    return list(dict.fromkeys(role for role, _ in granted)), list(dict.fromkeys(scopes))


def new_key(folder):
    """Make the next key, k1.pem, k2.pem ..., and beside it the public half, k1.pub ...; return its kid."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    kid = f'k{1 + max([0, *(int(match[1]) for match in map(KEY_FILE.fullmatch, os.listdir(folder)) if match)])}'
    private = rsa.generate_private_key(65537, 2048)
    with open(f'{folder}/{kid}.pub', 'wb') as file:
        file.write(
            private.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    with open(
        os.open(f'{folder}/{kid}.new', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'wb'
    ) as file:
        file.write(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    os.rename(
        f'{folder}/{kid}.new', f'{folder}/{kid}.pem'
    )  # a server that reads the folder now sees all of it
    return kid


def keys(folder):
    """Return {kid: private key} of a folder, the newest first; raise OSError, or ValueError for what is no such key."""
    found = sorted(
        filter(None, map(KEY_FILE.fullmatch, os.listdir(folder))), key=lambda match: -int(match[1])
    )
    return {
        f'k{match[1]}': load(f'{folder}/{match[0]}', os.stat(f'{folder}/{match[0]}').st_mtime_ns)
        for match in found
    }


@lru_cache(maxsize=64)
def load(path, _changed):
    with open(path, 'rb') as file:
        pem = file.read()
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f'{path} is no private key in PEM, or it is encrypted') from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 2048:
        raise ValueError(f'{path} is no RSA key of 2048 bits or more')
    return key


def remember(folder, claims, now):
    """Remember on disk that an assertion was used, for as long as it is valid; raise Refused if it was already."""
    with closing(sqlite3.connect(f'{folder}/used.db')) as database, database:
        database.execute('CREATE TABLE IF NOT EXISTS used (id TEXT PRIMARY KEY, until INTEGER)')
        database.execute('DELETE FROM used WHERE until < ?', [now])
        row = [claims.id, claims.expires + saml.SKEW]
        if not database.execute('INSERT OR IGNORE INTO used VALUES (?, ?)', row).rowcount:
            raise Refused('this assertion was used before')


def token_for(assertion, policy, folder, lifetime, now):
    """Return OAuth's answer to an assertion (base64url), and one line about it for the log; raise Refused."""
    claims = saml.verify(saml.decode(assertion), policy.trust, now)
    roles, scopes = scopes_of(claims.attributes, policy.roles)
    if not roles:
        raise Refused(f'no role for {claims.subject!a}: none of its attributes is in the map')
    kid, key = next(iter(keys(folder).items()), (None, None))
    if not key:
        raise ValueError(f'there is no key in {folder}')
    remember(folder, claims, now)
    now, scope = int(now), ' '.join(scopes)
    expires = min(now + lifetime, claims.expires + saml.SKEW)
    token = jwt.encode(
        {
            'iss': policy.trust.audience,
            'sub': claims.subject,
            'aud': [BROKER],
            'scope': scope,
            'iat': now,
            'exp': expires,
        },
        key,
        'RS256',
        {'kid': kid},
    )
    return (
        {
            'access_token': token,
            'token_type': 'bearer',
            'expires_in': expires - now,
            'scope': scope,
        },
        f'{claims.subject!a} is {", ".join(roles)} for {expires - now} s, signed with {kid}',
    )


class Connection(AutoHTTPProtocol):
    """What uvicorn makes of a connection, but with a limit to its life and to their number."""

    def connection_made(self, transport):
        super().connection_made(transport)
        if len(self.connections) > MOST:
            logging.warning(
                'refused, from %s: there are %d connections',
                transport.get_extra_info('peername')[0],
                MOST,
            )
            transport.abort()
        self.loop.call_later(LIFE, transport.abort)


async def form_of(request):
    """Return the fields of a form; raise Wrong."""
    body = b''
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM:
                raise Wrong('invalid_request', f'too large: more than {MAX_FORM} bytes')
        fields = parse_qsl(body.decode('ascii'), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Wrong('invalid_request', 'not a form') from None
    except (ClientDisconnect, asyncio.CancelledError):  # the latter if we are to stop
        raise Wrong('invalid_request', f'broke off, or took longer than {LIFE} s') from None
    if len(dict(fields)) != len(fields):
        raise Wrong('invalid_request', 'a field comes twice')
    return dict(fields)


def site(policy, folder, lifetime):
    """Return the ASGI application, and the Counter of the tokens and refusals that it will fill.

    `folder` holds the keys and what was used, `lifetime` is that of tokens (s).
    """
    counts = Counter(tokens=0, refused=0)

    def refusal(request, error):
        kind, reason, status = 'invalid_grant', str(error), 400
        if isinstance(error, Wrong):
            kind, reason = error.args
        elif isinstance(error, OUR_FAULT):
            kind, reason, status = (
                'temporarily_unavailable',
                f'{type(error).__name__}: {error}',
                503,
            )
        logging.warning('refused, from %s: %s', request.client.host, reason)
        counts['refused'] += 1
        told = {} if status == 503 else {'error_description': re.sub(r'["\\]', "'", reason)}
        return JSONResponse({'error': kind, **told}, status, headers={'cache-control': 'no-store'})

    async def token(request):
        try:
            form = await form_of(request)
            if form.get('grant_type') != GRANT:
                raise Wrong(
                    'unsupported_grant_type' if 'grant_type' in form else 'invalid_request',
                    f'grant_type is not {GRANT}',
                )
            answer, about = token_for(
                form.get('assertion', ''), policy, folder, lifetime, time.time()
            )
        except (Refused, Wrong, *OUR_FAULT) as error:
            return refusal(request, error)
        logging.info('%s', about)
        counts['tokens'] += 1
        return JSONResponse(answer, headers={'cache-control': 'no-store'})

    async def jwks(request):
        try:
            found = keys(folder)
        except OUR_FAULT as error:
            return refusal(request, error)
        return JSONResponse(
            {
                'keys': [
                    {
                        **RSAAlgorithm.to_jwk(key.public_key(), as_dict=True),
                        'kid': kid,
                        'use': 'sig',
                        'alg': 'RS256',
                    }
                    for kid, key in found.items()
                ]
            }
        )

    return Starlette(
        routes=[Route('/token', token, methods=['POST']), Route('/jwks', jwks)]
    ), counts
