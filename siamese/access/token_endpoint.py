"""The HTTP of the token server: POST /token (RFC 7522) and GET /jwks."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import time
from collections import Counter
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from siamese import refusals
from siamese.access import token_issuer
from siamese.access.saml import AssertionRefused

GRANT_TYPE = 'urn:ietf:params:oauth:grant-type:saml2-bearer'
MAX_FORM_BYTES = 100_000  # saml.MAX_XML_BYTES in base64, and the other fields
MAX_FORM_FIELDS = 20
# The keys or the disk of this server are at fault, not the request.
SERVER_ERRORS = (OSError, ValueError, sqlite3.Error)
NO_STORE = {'cache-control': 'no-store'}


class BadRequest(Exception):
    """A request that is answered with one of OAuth's error codes."""

    def __init__(self, code: str, reason: str):
        super().__init__(reason)
        self.code = code


class TokenEndpoint:
    """Answers requests, and counts the tokens and the refusals.

    `folder` holds the keys and the IDs of used assertions.
    """

    def __init__(self, policy: token_issuer.Policy, folder: str, lifetime_s: int):
        self.policy = policy
        self.folder = folder
        self.lifetime_s = lifetime_s  # of tokens
        self.counts = Counter(tokens=0, refused=0)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route('/token', self.token, methods=['POST']),
                Route('/jwks', self.jwks),
            ]
        )

    async def token(self, request: Request) -> JSONResponse:
        """Answer an assertion with a token."""
        try:
            assertion = assertion_in(await read_form(request))
            issued = token_issuer.issue_token(
                assertion,
                self.policy,
                self.folder,
                self.lifetime_s,
                time.time(),
            )
        except (AssertionRefused, BadRequest) as error:
            return self.refuse(request, error)
        except SERVER_ERRORS as error:
            return self.apologize(request, error)
        logging.info('%s', issued.description)
        self.counts['tokens'] += 1
        answer = {
            'access_token': issued.text,
            'token_type': 'bearer',
            'expires_in': issued.lifetime_s,
            'scope': issued.scope,
        }
        return JSONResponse(answer, headers=NO_STORE)

    async def jwks(self, request: Request) -> JSONResponse:
        """Show the public keys."""
        try:
            keys = token_issuer.load_keys(self.folder)
        except SERVER_ERRORS as error:
            return self.apologize(request, error)
        shown = [public_jwk(kid, key) for kid, key in keys.items()]
        return JSONResponse({'keys': shown})

    def refuse(
        self,
        request: Request,
        error: AssertionRefused | BadRequest,
    ) -> JSONResponse:
        """Answer that the request or its assertion is at fault, and why."""
        reason = str(error)
        self.record_refusal(request, reason)
        # RFC 6749 does not allow these characters.
        description = re.sub(r'["\\]', "'", reason)
        code = getattr(error, 'code', 'invalid_grant')
        answer = {'error': code, 'error_description': description}
        return JSONResponse(answer, 400, headers=NO_STORE)

    def apologize(self, request: Request, error: Exception) -> JSONResponse:
        """Answer that this server is at fault; only the log says why."""
        self.record_refusal(request, f'{type(error).__name__}: {error}')
        answer = {'error': 'temporarily_unavailable'}
        return JSONResponse(answer, 503, headers=NO_STORE)

    def record_refusal(self, request: Request, reason: str) -> None:
        client = request.client
        refusals.log.warning(
            'refused, from %s: %s',
            client and client.host,
            reason,
            extra={'kind': kind_of(reason)},
        )
        self.counts['refused'] += 1


def kind_of(reason: str) -> str:
    """Return a reason without what a stranger can choose in it."""
    return ' '.join(reason.split()[:2])


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form; raise BadRequest."""
    try:
        body = await read_body(request)
        fields = parse_qsl(
            body.decode('ascii'),
            keep_blank_values=True,
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError:
        raise BadRequest('invalid_request', 'not a form') from None
    form = dict(fields)
    if len(form) != len(fields):
        raise BadRequest('invalid_request', 'a field comes twice')
    return form


async def read_body(request: Request) -> bytes:
    body = b''
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                raise BadRequest(
                    'invalid_request',
                    f'too large: more than {MAX_FORM_BYTES} bytes',
                )
    except (ClientDisconnect, asyncio.CancelledError):
        # Requests are cancelled when the server stops.
        raise BadRequest('invalid_request', 'the request broke off') from None
    return body


def assertion_in(form: dict[str, str]) -> str:
    """Return the assertion in a form, '' if it has none; raise BadRequest."""
    reason = f'grant_type is not {GRANT_TYPE}'
    if 'grant_type' not in form:
        raise BadRequest('invalid_request', reason)
    if form['grant_type'] != GRANT_TYPE:
        raise BadRequest('unsupported_grant_type', reason)
    return form.get('assertion', '')


def public_jwk(kid: str, key: rsa.RSAPrivateKey) -> dict[str, object]:
    """Return the public half of a key as JSON Web Key (RFC 7517)."""
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, 'kid': kid, 'use': 'sig', 'alg': 'RS256'}
