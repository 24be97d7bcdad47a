#!/usr/bin/env python3
"""Give tokens for signed SAML 2.0 assertions: a claim becomes a role at the broker.

POST /token (RFC 7522) takes an assertion of an identity provider, checks it, and
answers with a token (JWT, RS256) for RabbitMQ's OAuth 2 backend. GET /jwks shows
the public keys. CLAIMS.json says whom to trust, and which attribute gives which
role: see docs/explanation/claims.md. Pairs with every script here (the token is the password)
and with broker.py --oauth2. Start this first.

    $ ./token_server.py examples/saml/claims.json --keys $(mktemp -d) --port 0 --duration 1
    http://127.0.0.1:41873/token takes assertions of https://idp.example/saml
    0 tokens, 0 refused; up for 1 s; stopped: duration over

The newest key in the folder --keys signs. All keys in it are shown at /jwks.
--new-key makes the next key: k1.pem and k1.pub, then k2 ... A running server uses
it at once. The server listens at loopback. Any other address needs TLS: --certfile
and --keyfile, or --no-tls if a proxy does TLS. Each refusal is one line on stderr.

Exit status: 0 stopped by --duration, Ctrl-C or SIGTERM; 2 usage; 3 the port is
taken, a key or a library is missing.

Examples:
    ./token_server.py examples/saml/claims.json
    ./token_server.py --new-key
    ./token_server.py claims.json --host 0.0.0.0 --certfile server.pem --lifetime 900
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import asyncio
import logging
import os
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from common import Failure
from siamese import flags, script
from siamese.web import server

if TYPE_CHECKING:  # it needs requirements/access.txt
    from siamese.access.token_endpoint import TokenEndpoint
    from siamese.access.token_issuer import Policy

SUMMARY = '{tokens:token}, {refused} refused; up for {duration_s:.0f} s; stopped: {stopped}'


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        'claims',
        nargs='?',
        metavar='CLAIMS.json',
        help='whom to trust, and which claim gives which role',
    )
    group = parser.add_argument_group('tokens')
    group.add_argument(
        '--keys',
        default='siamese-keys',
        metavar='FOLDER',
        help='the keys that sign tokens, and the IDs of used assertions (default: %(default)s)',
    )
    group.add_argument(
        '--new-key',
        action='store_true',
        help='make the next key in that folder, print the name of its public half, and stop',
    )
    group.add_argument(
        '--lifetime',
        type=flags.number(int, 1, 86_400),
        default=300,
        metavar='S',
        help='tokens are valid for S seconds, at most as long as the assertion '
        '(default: %(default)s)',
    )


def parse_args(argv: 'list[str] | None') -> Namespace:
    parser = flags.parser(__doc__)
    add_flags(parser)
    server.add_flags(parser, 8081)
    flags.add_output_flags(parser, 'uvicorn')
    args = flags.parse(parser, argv)
    server.check(parser, args, 'assertions and tokens')
    if bool(args.claims) == args.new_key:
        parser.error('give either CLAIMS.json or --new-key')
    require_libraries()
    if args.claims:
        args.policy = read_policy(parser, args.claims)
    return args


def require_libraries() -> None:
    """Raise Failure unless what requirements/access.txt names is installed.

    The imports are within functions, for they take long, and --help needs none.
    """
    try:
        import siamese.access.token_endpoint  # noqa: F401
    except ModuleNotFoundError as error:
        raise Failure(
            f'{error.name} is not installed: pip install -r requirements/access.txt',
            3,
        ) from None


def read_policy(parser: ArgumentParser, path: str) -> 'Policy':
    """Return whom to trust; end with exit status 2 if the file does not say so."""
    from siamese.access import token_issuer

    try:
        return token_issuer.read_policy(path)
    except (OSError, ValueError) as error:
        parser.error(f'cannot use {path}: {error}')


def have_key(folder: str) -> None:
    """Make the first key if there is none; raise Failure if a key is unusable."""
    from siamese.access import token_issuer

    try:
        if not os.path.isdir(folder) or not token_issuer.load_keys(folder):
            kid = token_issuer.new_key(folder)
            logging.info('no key in %s yet: made %s', folder, kid)
        token_issuer.load_keys(folder)
    except (OSError, ValueError) as error:
        raise Failure(f'cannot use the keys in {folder}: {error}', 3) from None


def main(argv: 'list[str] | None' = None) -> int:
    args = parse_args(argv)
    from siamese.access import token_endpoint, token_issuer

    if args.new_key:
        kid = token_issuer.new_key(args.keys)
        print(f'{args.keys}/{kid}.pub')
        return 0
    have_key(args.keys)
    endpoint = token_endpoint.TokenEndpoint(args.policy, args.keys, args.lifetime)
    serve(args, endpoint)
    return 0


def serve(args: Namespace, endpoint: 'TokenEndpoint') -> None:
    """Answer requests until --duration is over or a signal comes, and report."""
    listening, url = server.listen(args)
    if not args.quiet:
        issuer = endpoint.policy.trust.issuer
        print(f'{url}/token takes assertions of {issuer}')
    started = time.monotonic()
    # Without access log: a request may have the assertion in its address.
    serving = server.serve(
        args,
        listening,
        endpoint.application(),
        access_log=False,
        headers=[('connection', 'close')],
    )
    asyncio.run(serving)
    summary = {
        **endpoint.counts,
        'duration_s': time.monotonic() - started,
        'stopped': server.stop_reason(),
    }
    script.report(args, SUMMARY, summary)


if __name__ == '__main__':
    script.run(main)
