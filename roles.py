#!/usr/bin/env python3
"""Make users for the four standard roles, and try what each of them may do.

--create makes siamese-subscriber, siamese-publisher, siamese-monitoring and siamese-administrator through the
management API, with rights on the virtual host of AMQP_URL. Passwords come from SUBSCRIBER_PASSWORD,
PUBLISHER_PASSWORD ... or are made, and shown on stdout, this once. --check tries every operation as every role, with
real connections, on a queue of its own that is gone afterwards: as the role itself where its password is in the
environment, else as a user with the same rights that is made for it. --remove undoes --create.

    $ ./roles.py --check
                    subscriber     publisher      monitoring     administrator
    connect         allowed        allowed        allowed        allowed
    declare         refused        refused        refused        allowed
    bind            refused        refused        refused        allowed
    publish         refused        allowed        refused        allowed
    consume         allowed        refused        refused        allowed
    get             allowed        refused        refused        allowed
    purge           allowed        refused        refused        allowed
    delete          refused        refused        refused        allowed
    read the API    refused        refused        allowed        allowed
    see all nodes   refused        refused        allowed        allowed
    set a policy    refused        refused        refused        allowed
    create a user   refused        refused        refused        allowed
    48 rights tried, 21 allowed, 27 refused, 0 wrong; 1.3 s; stopped: all tried

It needs an administrator in AMQP_URL or MANAGEMENT_URL. With less, as on CloudAMQP's shared plans, --check tries what
this user may do, and the roles whose passwords it is given. Exit status: 0 done and right, 1 a right too many or too
few, or refused, 2 usage, 3 could not tell.

Examples:
    ./roles.py --create                               # also again: users are kept, their rights restored
    PUBLISHER_PASSWORD=secret ./roles.py --create     # with a password of yours
    ./roles.py --create --prefix shop                 # shop-subscriber, shop-publisher ...
    ./roles.py --remove                               # and what a --check left that was killed
"""

import logging
import os
import secrets
import time
from urllib.parse import unquote, urlsplit

import common
from common import Failure
from siamese import flags, script
from siamese.access import permissions as rights
from siamese.messaging import blocking
from siamese.messaging import credentials as tokens
from siamese.messaging import management_api as management
from siamese.messaging.management_api import part

OURS = 'siamese'  # a tag that gives no right: roles.py made this user
NOTHING, ANYTHING = '^$', '.*'
EVENTS = r'^siamese\.events-'  # the queue in which monitor.py has what the event exchange tells
KINDS = ('configure', 'write', 'read')
IMPLIED = {
    'monitoring': ['management'],
    'administrator': ['policymaker', 'monitoring', 'management'],
}  # tags
ROLES = {  # tags; which names they may configure, write to, read from
    'subscriber': ([], NOTHING, NOTHING, ANYTHING),
    'publisher': ([], NOTHING, ANYTHING, NOTHING),
    'monitoring': (
        ['monitoring'],
        EVENTS,
        EVENTS,
        rf'{EVENTS}|^siamese\.dead$|^amq\.rabbitmq\.event$',
    ),
    'administrator': (['administrator'], ANYTHING, ANYTHING, ANYTHING),
}
EXPECTED = {  # of rights.OPERATIONS
    'subscriber': {'connect', 'consume', 'get', 'purge'},
    'publisher': {'connect', 'publish'},
    'monitoring': {'connect', 'read the API', 'see all nodes'},
    'administrator': set(rights.OPERATIONS),
}

CREATED = '{user:<30}  {password:<29}  {what}'
SUMMARY = (
    '{tried} rights tried, {allowed} allowed, {refused} refused, {wrong} wrong; {duration_s:.1f} s; '
    'stopped: {stopped}'
)


def put_user(call, user, tags, **secret):
    """Make a user, or change one; `secret` is a password, or a password_hash with its hashing_algorithm."""
    call(f'users/{part(user)}', 'PUT', {'tags': ','.join(tags), **secret})


def put_rights(call, vhost, user, patterns):
    call(f'permissions/{part(vhost)}/{part(user)}', 'PUT', dict(zip(KINDS, patterns)))


def find(call, path):
    """Return what the API has at `path`, None if there is nothing."""
    try:
        return call(path)
    except management.Refused as refused:
        if refused.status != 404:
            raise
    return None


def tags_of(user):
    """Return the tags of a user as the API shows it; before RabbitMQ 3.9 they are one string."""
    return (
        list(filter(None, user['tags'].split(',')))
        if isinstance(user['tags'], str)
        else user['tags']
    )


def why_not(call):
    """Return why this user may not create users, or ''."""
    try:
        tags = tags_of(call('whoami'))
    except management.Refused as refused:
        if refused.status not in (401, 403):
            raise
        return str(refused)
    return (
        ''
        if 'administrator' in tags
        else f'it is no administrator, but {",".join(tags) or "has no tag"}'
    )


def user_name(args, role):
    return f'{args.prefix}-{role}'


def given(role):
    """Return the password that the environment has for a role, None if it has none."""
    return os.environ.get(f'{role.upper()}_PASSWORD') or None


def create(args):
    """Make a user for each role, or restore its rights; show the passwords that are made."""
    vhost = args.endpoint.virtual_host
    users = {role: find(args.call, f'users/{part(user_name(args, role))}') for role in ROLES}
    strangers = [user['name'] for user in users.values() if user and OURS not in tags_of(user)]
    if strangers and not args.overwrite:
        raise Failure(
            f'{", ".join(strangers)}: not made by roles.py, and left alone; choose another --prefix, or '
            '--overwrite them',
            1,
        )
    if not find(args.call, f'vhosts/{part(vhost)}'):
        raise Failure(f'no virtual host {vhost!r}; see AMQP_URL, or rabbitmqctl add_vhost', 1)
    logging.info('passwords that are made are shown on stdout, this once')
    for role, (tags, *patterns) in ROLES.items():
        name, before, password = user_name(args, role), users[role], given(role)
        secret = {'password': password or secrets.token_urlsafe(18)}
        shown = f'(from {role.upper()}_PASSWORD)' if password else secret['password']
        what = (
            'created'
            if not before
            else 'overwritten'
            if name in strangers
            else 'was there, rights restored'
        )
        if before and name not in strangers and not password:
            secret, shown = (
                {key: before[key] for key in ('password_hash', 'hashing_algorithm')},
                '(as it was)',
            )
        with rights.undisturbed():
            put_user(args.call, name, [*tags, OURS], **secret)
            put_rights(args.call, vhost, name, patterns)
            print(CREATED.format(user=name, password=shown, what=what))


def remove(args):
    """Undo create(): take the rights on this virtual host, and the user unless it has others; and what checks left."""
    for role in ROLES:
        name, vhost = user_name(args, role), args.endpoint.virtual_host
        path = f'users/{part(name)}'
        user = find(args.call, path)
        if not user or OURS not in tags_of(user):
            print(f'{name}: {"not made by roles.py, left alone" if user else "not there"}')
            continue
        others = [
            held['vhost'] for held in args.call(f'{path}/permissions') if held['vhost'] != vhost
        ]
        args.call(f'permissions/{part(vhost)}/{part(name)}' if others else path, 'DELETE')
        print(
            f'{name}: '
            + (
                f'rights removed; stays, for it has some on {", ".join(others)}'
                if others
                else 'removed'
            )
        )
    rights.sweep(args.call, args.endpoint.virtual_host, rights.TEMPORARY)


def check(args):
    """Try every right of every role, print the matrix and what is wrong with it; return the exit status."""
    started, name, matrix, findings, users = (
        time.monotonic(),
        rights.TEMPORARY + secrets.token_hex(4),
        {},
        [],
        {},
    )
    args.endpoint = blocking.first_reachable(args.endpoints)
    limited = why_not(args.call)
    if limited:
        logging.warning(
            '%s may not create users (%s): trying what it may do itself, and the roles whose passwords are '
            'in the environment',
            tokens.login_name(args.endpoint.credentials),
            limited,
        )
    try:
        users = logins(args, name, limited)
        for who, login in users.items():
            if not script.stop_requested():
                user = rights.as_user(args.endpoint, *login)
                matrix[who] = rights.try_all(args.endpoint, user, args.management_url, name)
        findings = [line for role in ROLES for line in deviations(role, matrix.get(role, {}))]
        findings += [line for role in ROLES if not limited for line in differences(args, role)]
    finally:
        rights.tidy_up(args.endpoint, args.management_url, name)
    refused = [bool(refusal) for refusals in matrix.values() for refusal in refusals.values()]
    missing = ', '.join(role for role in ROLES if role not in matrix)
    whole = len(refused) == len(users) * len(rights.OPERATIONS)
    status = 1 if findings else 0 if whole and not missing else 3
    if not args.quiet:
        print_matrix(matrix)
    if args.json != '-':
        print(*findings, sep='\n', end='\n' * bool(findings))
    script.report(
        args,
        SUMMARY,
        {
            'broker': common.display_address(args.endpoint),
            'users': {who: user for who, (user, _) in users.items()},
            'rights': {
                who: {what: not refusal for what, refusal in refusals.items()}
                for who, refusals in matrix.items()
            },
            'findings': findings,
            'tried': len(refused),
            'allowed': refused.count(False),
            'refused': sum(refused),
            'wrong': len(findings),
            'duration_s': round(time.monotonic() - started, 3),
            'stopped': script.stop_requested()
            or (f'not tried: {missing}' if missing else 'all tried'),
            'exit_status': status,
        },
    )
    return status


def logins(args, name, limited):
    """Return {role: (user, password)} of whom to try; where a password is not known, that of a user made like it."""
    found = {role: (user_name(args, role), given(role)) for role in ROLES}
    if limited:
        mine, given_ones = (
            args.endpoint.credentials,
            {role: login for role, login in found.items() if login[1]},
        )
        return {mine.username or 'this token': (mine.username, mine.password), **given_ones}
    originals = {role: find(args.call, f'users/{part(user)}') for role, (user, _) in found.items()}
    if None in originals.values():
        missing = [user for role, (user, _) in found.items() if not originals[role]]
        raise Failure(f'there is no user {", ".join(missing)}; see ./roles.py --create', 1)
    for role, (user, password) in found.items():
        if not password:
            found[role] = twin, secret = f'{name}-{role}', secrets.token_urlsafe(18)
            with rights.undisturbed():
                put_user(args.call, twin, tags_of(originals[role]), password=secret)
                patterns = patterns_of(args, user)
                if patterns:
                    put_rights(args.call, args.endpoint.virtual_host, twin, patterns)
    return found


def patterns_of(args, user):
    """Return what a user may configure, write to and read from, None if it may not use the virtual host."""
    found = find(args.call, f'permissions/{part(args.endpoint.virtual_host)}/{part(user)}')
    return found and [found[kind] for kind in KINDS]


def deviations(role, refusals):
    """Return a line for each right that a role has and should not, or has not and should."""
    lines = []
    for what, refusal in refusals.items():
        if refusal and what in EXPECTED[role]:
            lines.append(f'{role}: a right too few: {what} is refused ({refusal})')
            if what == 'connect':
                break
        elif not refusal and what not in EXPECTED[role]:
            lines.append(f'{role}: a right too many: {what} is allowed')
    return lines


def differences(args, role):
    """Return a line for each tag and each pattern of a role that is not as in ROLES: not all names can be tried."""
    tags, *patterns = ROLES[role]
    user = user_name(args, role)
    usual = {OURS, *tags}.union(*map(IMPLIED.get, tags))
    lines = [
        f'{role}: a right too many: the tag {tag!r}'
        for tag in tags_of(args.call(f'users/{part(user)}'))
        if tag not in usual
    ]
    for kind, pattern, expected in zip(KINDS, patterns_of(args, user) or [], patterns):
        pattern = pattern or NOTHING
        what = f'the pattern {pattern!r} for {kind}'
        if pattern != expected and (expected == ANYTHING or pattern == NOTHING):
            lines.append(f'{role}: a right too few: {what} is narrower than {expected!r}')
        elif pattern != expected:
            lines.append(f'{role}: a right too many: {what}, expected {expected!r}')
    return lines


def print_matrix(matrix):
    rows = [['', *matrix]]
    for what in rights.OPERATIONS:
        cells = []
        for who, refusals in matrix.items():
            cell = '' if what not in refusals else 'refused' if refusals[what] else 'allowed'
            wrong = who in ROLES and cell and (cell == 'allowed') != (what in EXPECTED[who])
            cells.append(f'{cell.upper()} !' if wrong else cell)
        rows.append([what, *cells])
    for what, *cells in rows:
        print('  '.join([f'{what:<14}', *(f'{cell:<13}' for cell in cells)]).rstrip())


def parse_args(argv):
    parser = flags.parser(__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument('--create', action='store_true', help='make the users of the four roles')
    action.add_argument('--check', action='store_true', help='try all rights of all roles')
    action.add_argument('--remove', action='store_true', help='remove the users that --create made')
    parser.add_argument(
        '--prefix',
        type=flags.name,
        default='siamese',
        metavar='NAME',
        help='the users are called NAME-subscriber ... (default: %(default)s)',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='with --create: also users that roles.py did not make',
    )
    flags.add_url_flags(parser)
    management.add_flag(parser)
    flags.add_output_flags(parser)
    args = flags.parse(parser, argv)
    if args.json and not args.check:
        parser.error('--json goes with --check')
    try:
        management.api(args.endpoints[0], args.management_url)
    except ValueError as error:
        parser.error(str(error))
    url = urlsplit(args.management_url or '')
    if url.username:  # this user is the administrator, also over AMQP
        args.endpoints = [
            rights.as_user(endpoint, unquote(url.username), unquote(url.password or ''))
            for endpoint in args.endpoints
        ]
        args.management_url = url._replace(netloc=url.netloc.rpartition('@')[2]).geturl()
    args.endpoint, args.call = (
        args.endpoints[0],
        management.api(args.endpoints[0], args.management_url),
    )
    return args


def main(argv=None):
    args = parse_args(argv)
    try:
        if args.check:
            return check(args)
        limited = why_not(args.call)
        if limited:
            raise Failure(
                f'{tokens.login_name(args.endpoint.credentials)} may not create or remove users ({limited}); let '
                'an administrator do it, or see --check',
                1,
            )
        return create(args) if args.create else remove(args)
    except management.Refused as refused:
        hint = (
            '' if refused.status else '; is rabbitmq_management enabled, is MANAGEMENT_URL right?'
        )
        raise Failure(f'{refused}{hint}', 1 if 400 <= refused.status < 500 else 3) from None


if __name__ == '__main__':
    script.run(main)
