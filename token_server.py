#!/usr/bin/env python3
"""Give tokens for signed SAML 2.0 assertions: what an identity provider claims becomes a role at the broker.

POST /token (RFC 7522) takes an assertion, checks it, and answers with a token (JWT, RS256) for RabbitMQ's OAuth 2
backend; GET /jwks shows the public keys. CLAIMS.json says whom to trust, and which attribute gives which role: see
docs/claims.md. Pairs with every script here (the token is the password) and with broker.py --oauth2. Start this first.

    $ ./token_server.py examples/saml/claims.json --keys $(mktemp -d) --port 0 --duration 1
    http://127.0.0.1:41873/token takes assertions of https://idp.example/saml
    0 tokens, 0 refused; up for 1 s; stopped: 1 s are over

The newest key in the folder --keys signs, the others are still shown. --new-key makes the next: k1.pem and k1.pub, k2
... The server sees it at once. It listens at loopback; any other address needs TLS: --certfile and --keyfile, or
--no-tls where a proxy does it. Each refusal is one line on stderr.

Exit status: 0 stopped by --duration, Ctrl-C or SIGTERM; 2 usage; 3 the port is taken, a key or a library is missing.

Examples:
    ./token_server.py examples/saml/claims.json
    ./token_server.py --new-key
    ./token_server.py claims.json --host 0.0.0.0 --certfile server.pem --lifetime 900
"""

import asyncio
import logging
import os
import time

from common import Failure
from siamese import flags, script
from siamese.web import server as listener

SUMMARY = '{tokens} tokens, {refused} refused; up for {duration_s:.0f} s; stopped: {stopped}'


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        'claims',
        nargs='?',
        metavar='CLAIMS.json',
        help='whom to trust, and which claim gives what role',
    )
    parser.add_argument(
        '--keys',
        default='siamese-keys',
        metavar='FOLDER',
        help='the keys that sign tokens, and which assertions were used (default: %(default)s)',
    )
    parser.add_argument(
        '--new-key',
        action='store_true',
        help='make the next key there, name its public half, and end',
    )
    parser.add_argument(
        '--lifetime',
        type=flags.number(int, 1, 86_400),
        default=300,
        metavar='S',
        help='seconds that a token is valid, at most as long as its assertion (default: %(default)s)',
    )
    listener.add_flags(parser, 8081)
    flags.add_output_flags(parser, 'uvicorn')
    args = flags.parse(parser, argv)
    listener.check(parser, args, 'assertions and tokens')
    if bool(args.claims) == args.new_key:
        parser.error('give either CLAIMS.json or --new-key')
    return args, parser


def main(argv=None):
    args, parser = parse_args(argv)
    try:
        from siamese.access import token_issuer as claims
    except ModuleNotFoundError as error:
        raise Failure(
            f'{error.name} is not installed: pip install -r requirements/access.txt', 3
        ) from None
    if args.new_key:
        print(f'{args.keys}/{claims.new_key(args.keys)}.pub')
        return 0
    try:
        policy = claims.policy(args.claims)
    except (OSError, ValueError) as error:
        parser.error(f'cannot use {args.claims}: {error}')
    try:
        if not os.path.isdir(args.keys) or not claims.keys(args.keys):
            logging.info('no key in %s yet: made %s', args.keys, claims.new_key(args.keys))
        claims.keys(args.keys)
    except (OSError, ValueError) as error:
        raise Failure(f'cannot use the keys in {args.keys}: {error}', 3) from None
    site, counts = claims.site(policy, args.keys, args.lifetime)
    listening, place = listener.listen(args)
    if not args.quiet:
        print(f'{place}/token takes assertions of {policy.trust.issuer}')
    began = time.monotonic()
    # Requests are not logged by uvicorn: somebody could put an assertion into the address.
    asyncio.run(
        listener.serve(
            args,
            listening,
            site,
            access_log=False,
            http=claims.Connection,
            backlog=claims.BURST,
            headers=[('connection', 'close')],
        )
    )
    script.report(
        args,
        SUMMARY,
        {
            **counts,
            'duration_s': time.monotonic() - began,
            'stopped': script.stop_requested() or f'{args.duration:g} s are over',
        },
    )
    return 0


if __name__ == '__main__':
    script.run(main)
