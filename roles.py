#!/usr/bin/env python3
"""Make users for the four standard roles, and try what each of them may do.

--create makes siamese-subscriber, siamese-publisher, siamese-monitoring and
siamese-administrator through the management API, with permissions on the virtual
host of AMQP_URL. Passwords come from SUBSCRIBER_PASSWORD, PUBLISHER_PASSWORD ...
or are generated, and shown on stdout, this once.

--check tries every operation as every role, with real connections, on a
temporary queue. It logs in as the role itself if its password is in the
environment, else as a temporary user with the same permissions.

--remove undoes --create.

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
    48 permissions tried, 21 allowed, 27 refused, 0 wrong; 1.3 s; stopped: all tried

AMQP_URL or MANAGEMENT_URL must name an administrator. Without one, as on
CloudAMQP's shared plans, --check tries what this user may do, and the roles
whose passwords are in the environment.

Exit status: 0 done and right, 1 a permission is missing or unexpected, or nothing was
there to remove, 2 usage, 3 could not tell: refused by the broker, no users to check, or
broker unreachable.

Examples:
    ./roles.py --create                 # if users exist: restore their permissions
    PUBLISHER_PASSWORD=secret ./roles.py --create
    ./roles.py --create --prefix shop   # shop-subscriber, shop-publisher ...
    ./roles.py --create --role subscriber
    ./roles.py --remove                 # also what a killed --check left behind
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import logging
import os
import secrets
import time
from argparse import ArgumentParser, Namespace
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import common
from common import Failure
from siamese import flags, script, start, terminal
from siamese.access import permissions, users
from siamese.access.standard_roles import (
    ROLES,
    deviations_of,
    different_patterns,
    unexpected_tags,
)
from siamese.access.users import (
    OWN_TAG,
    find,
    get_patterns,
    is_own,
    put_permissions,
    put_user,
    tags_of,
    why_not_administrator,
)
from siamese.messaging import answers, blocking, credentials, management_api
from siamese.messaging.answers import text
from siamese.messaging.management_api import part
from siamese.terminal import show, show_table

CREATED = '{user:<30}  {password:<29}  {what}'
SUMMARY = (
    '{tried:permission} tried, {allowed} allowed, {refused} refused, {wrong} wrong; '
    '{duration_s:.1f} s; stopped: {stopped}'
)

# {role or user: {operation: why it was refused, '' if it was allowed}}
Matrix = dict[str, dict[str, str]]


class Login(NamedTuple):
    """A user to try; the user is '' where the password is a token."""

    user: str
    password: str


def user_name(args: Namespace, role: str) -> str:
    return f'{args.prefix}-{role}'


def given_password(role: str) -> 'str | None':
    """Return the password in the environment for a role, None without one."""
    return os.environ.get(f'{role.upper()}_PASSWORD') or None


def new_password() -> str:
    return secrets.token_urlsafe(18)


# ---- create


def create(args: Namespace) -> None:
    """Make a user for each role, or restore its permissions."""
    existing = {}
    for role in args.roles:
        path = f'users/{part(user_name(args, role))}'
        existing[role] = find(args.api, path)
    refuse_to_overwrite(args, existing)
    refuse_if_no_vhost(args)
    logging.info('generated passwords are shown on stdout, this once')
    for role in args.roles:
        create_user(args, role, existing[role])


def refuse_if_no_vhost(args: Namespace) -> None:
    """Raise Failure if the virtual host of AMQP_URL does not exist."""
    vhost = args.endpoint.virtual_host
    try:
        answers.get_vhost(args.api, vhost)
    except management_api.Refused as refused:
        if refused.status != management_api.NOT_FOUND:
            raise
        raise Failure(
            f'no virtual host {vhost!r}; see AMQP_URL, rabbitmqctl add_vhost',
            3,
        ) from None


def refuse_to_overwrite(args: Namespace, existing: dict) -> None:
    """Raise Failure if users of others have these names; --overwrite takes them."""
    found = [user for user in existing.values() if user]
    strangers = [text(user, 'name') for user in found if not is_own(args.api, user)]
    if strangers and not args.overwrite:
        names = ', '.join(strangers)
        raise Failure(
            f'{names}: not made by roles.py, and left alone; '
            'choose another --prefix, or --overwrite them',
            3,
        )


def create_user(args: Namespace, role: str, before: 'dict | None') -> None:
    """Create or restore the user of a role; show the password if it is new."""
    name = user_name(args, role)
    is_ours = bool(before and is_own(args.api, before))
    password = given_password(role)
    if password:
        secret = {'password': password}
        shown = f'(from {role.upper()}_PASSWORD)'
    elif before and is_ours:
        hash_fields = 'password_hash', 'hashing_algorithm'
        secret = {field: text(before, field) for field in hash_fields}
        shown = '(unchanged)'
    else:
        shown = new_password()
        secret = {'password': shown}
    tags = [*ROLES[role].tags, OWN_TAG]
    vhost = args.endpoint.virtual_host
    with script.signals_blocked():
        put_user(args.api, name, tags, **secret)
        users.mark(args.api, vhost, name)
        put_permissions(args.api, vhost, name, ROLES[role].patterns)
        what = what_was_done(before, is_ours)
        print(CREATED.format(user=name, password=shown, what=what))


def what_was_done(before: 'dict | None', is_ours: bool) -> str:
    if not before:
        return 'created'
    if is_ours:
        return 'existed, permissions restored'
    return 'overwritten'


# ---- remove


def remove(args: Namespace) -> int:
    """Undo create(), and remove what checks left; return the exit status.

    A user who has permissions on other virtual hosts keeps those, and stays.
    """
    done = [remove_user(args, user_name(args, role)) for role in args.roles]
    vhost = args.endpoint.virtual_host
    leftovers = permissions.delete_leftovers(args.api, vhost, permissions.TEMPORARY)
    if any(done) or leftovers:
        return 0
    logging.error('nothing was removed; see --prefix, --role')
    return 1


def remove_user(args: Namespace, name: str) -> bool:
    """Remove a user as far as it is ours; say and return whether that was done."""
    user = find(args.api, f'users/{part(name)}')
    if not user:
        show(f'{name}: does not exist')
        return False
    if not is_own(args.api, user):
        show(f'{name}: not made by roles.py, left alone')
        return False
    others = users.remove(args.api, args.endpoint.virtual_host, name)
    done = 'removed'
    if others:
        done = f'permissions removed; stays, because it has some on {", ".join(others)}'
    show(f'{name}: {done}')
    return True


# ---- check


def check(args: Namespace) -> int:
    """Try all operations as each role, and show the matrix and the findings.

    Returns the exit status.
    """
    started = time.monotonic()
    name = permissions.TEMPORARY + secrets.token_hex(4)
    args.endpoint = blocking.first_reachable(args.endpoints)
    limited = why_not_administrator(args.api)
    if limited:
        logging.warning(
            '%s may not create users (%s): trying what it may do itself, '
            'and the roles whose passwords are in the environment',
            credentials.login_name(args.endpoint.credentials),
            limited,
        )
    try:
        logins = logins_to_try(args, name, limited)
        matrix = try_logins(args, logins, name)
        findings = find_deviations(matrix)
        if not limited:
            findings += find_differences(args)
    finally:
        permissions.clean_up(args.endpoint, api_of(args), name)
    if not args.quiet:
        show_matrix(matrix)
    if args.json != '-':
        for finding in findings:
            show(finding, colour=terminal.RED)
    summary = summarize(args, logins, matrix, findings)
    summary['duration_s'] = round(time.monotonic() - started, 3)
    script.report(args, SUMMARY, summary)
    return summary['exit_status']


def logins_to_try(args: Namespace, name: str, limited: str) -> dict[str, Login]:
    """Return the logins to try, by role.

    If we may not create users, these are our own login and those with a given
    password. Otherwise a twin stands in for a role whose password is unknown.
    """
    found = {}
    if limited:
        own = args.endpoint.credentials
        who = own.username or 'this token'
        found[who] = Login(own.username, own.password)
    else:
        refuse_if_missing(args)
    for role in args.roles:
        password = given_password(role)
        if password:
            found[role] = Login(user_name(args, role), password)
        elif not limited:
            found[role] = create_twin(args, role, f'{name}-{role}')
    return found


def refuse_if_missing(args: Namespace) -> None:
    """Raise Failure unless there is a user for each role to check."""
    users = [user_name(args, role) for role in args.roles]
    missing = [user for user in users if not find(args.api, f'users/{part(user)}')]
    if missing:
        names = ', '.join(missing)
        raise Failure(f'there is no user {names}; see ./roles.py --create', 3)


def create_twin(args: Namespace, role: str, name: str) -> Login:
    """Create a user with the same tags and permissions as that of a role."""
    user = user_name(args, role)
    vhost = args.endpoint.virtual_host
    tags = tags_of(answers.get_object(args.api, f'users/{part(user)}'))
    patterns = get_patterns(args.api, vhost, user)
    login = Login(name, new_password())
    with script.signals_blocked():
        put_user(args.api, name, tags, password=login.password)
        if patterns:
            put_permissions(args.api, vhost, name, patterns)
    return login


def api_of(args: Namespace) -> permissions.ApiOf:
    """Return a function that gives the management API with the login of an endpoint."""
    return partial(management_api.of_flags, args)


def try_logins(args: Namespace, logins: dict[str, Login], name: str) -> Matrix:
    """Try all operations with each login, until a signal comes."""
    matrix = {}
    for who, login in logins.items():
        if not script.stop_requested():
            user = permissions.as_user(args.endpoint, *login)
            matrix[who] = permissions.try_all(
                args.endpoint,
                user,
                api_of(args),
                name,
            )
    return matrix


def find_deviations(matrix: Matrix) -> list[str]:
    """Return a line for each operation whose result is not that of the role."""
    lines = []
    for role in ROLES:
        lines += deviations_of(role, matrix.get(role, {}))
    return lines


def find_differences(args: Namespace) -> list[str]:
    """Return a line for each tag and pattern that is not that of the role.

    They matter because not all names can be tried.
    """
    lines = []
    for role in args.roles:
        user = user_name(args, role)
        tags = tags_of(answers.get_object(args.api, f'users/{part(user)}'))
        lines += unexpected_tags(role, [tag for tag in tags if tag != OWN_TAG])
        patterns = get_patterns(args.api, args.endpoint.virtual_host, user)
        lines += different_patterns(role, patterns or [])
    return lines


# ---- what a check shows


def summarize(
    args: Namespace,
    logins: dict[str, Login],
    matrix: Matrix,
    findings: list[str],
) -> dict:
    results: list[str] = []
    allowed = {}
    for who, refusals in matrix.items():
        results.extend(refusals.values())
        allowed[who] = {operation: not refusal for operation, refusal in refusals.items()}
    allowed_count = results.count('')
    not_tried = ', '.join(role for role in args.roles if role not in matrix)
    complete = len(results) == len(logins) * len(permissions.OPERATIONS)
    stopped = script.stop_requested() or 'all tried'
    if not_tried and not script.stop_requested():
        stopped = f'not tried: {not_tried}'
    return {
        'broker': common.display_address(args.endpoint),
        'users': {who: login.user for who, login in logins.items()},
        'permissions': allowed,
        'findings': findings,
        'tried': len(results),
        'allowed': allowed_count,
        'refused': len(results) - allowed_count,
        'wrong': len(findings),
        'stopped': stopped,
        'exit_status': exit_status(findings, complete and not not_tried),
    }


def exit_status(findings: list[str], all_tried: bool) -> int:
    if findings:
        return 1
    if not all_tried:
        return 3
    return 0


def show_matrix(matrix: Matrix) -> None:
    heads = [f'{"":14}', *(f'{who:13}' for who in matrix)]
    rows = []
    for operation in permissions.OPERATIONS:
        cells = [cell(who, operation, matrix) for who in matrix]
        rows.append([operation, *cells])
    show_table(heads, rows)


def cell(who: str, operation: str, matrix: Matrix) -> str:
    """Return the result of an operation; a wrong one is marked with `!`."""
    if operation not in matrix[who]:
        return ''
    result = 'allowed'
    if matrix[who][operation]:
        result = 'refused'
    allowed = result == 'allowed'
    if who in ROLES and allowed != (operation in ROLES[who].operations):
        return f'{result.upper()} !'
    return result


# ---- flags


def add_flags(parser: ArgumentParser) -> None:
    group = parser.add_argument_group('what to do')
    action = group.add_mutually_exclusive_group(required=True)
    action.add_argument(
        '--create',
        action='store_true',
        help='make the users of the four roles, or restore their permissions',
    )
    action.add_argument(
        '--check',
        action='store_true',
        help='try all operations as all roles',
    )
    action.add_argument(
        '--remove',
        action='store_true',
        help='remove the users that --create made',
    )
    group.add_argument(
        '--role',
        dest='roles',
        action='append',
        choices=ROLES,
        help='only the user of this role; may be repeated (default: all four)',
    )
    group.add_argument(
        '--prefix',
        type=flags.name,
        default='siamese',
        metavar='NAME',
        help='call the users NAME-subscriber ... (default: %(default)s)',
    )
    group.add_argument(
        '--overwrite',
        action='store_true',
        help='with --create: also take over users that roles.py did not make'
        ' (default: leave them alone)',
    )


def parse_args(argv: 'list[str] | None') -> Namespace:
    parser = flags.parser(__doc__)
    add_flags(parser)
    flags.add_url_flags(parser)
    management_api.add_flag(parser)
    flags.add_output_flags(parser)
    args = flags.parse(parser, argv)
    if args.json and not args.check:
        parser.error('--json goes with --check')
    try:
        management_api.of_flags(args, args.endpoints[0])
    except ValueError as error:
        parser.error(str(error))
    args.roles = [role for role in ROLES if role in (args.roles or ROLES)]
    log_in_as_administrator(args)
    args.endpoint = args.endpoints[0]
    args.api = management_api.of_flags(args, args.endpoint)
    return args


def log_in_as_administrator(args: Namespace) -> None:
    """Use the login in the management URL, if there is one, for AMQP as well."""
    url = urlsplit(args.management_url or '')
    if not url.username:
        return
    user = unquote(url.username)
    password = unquote(url.password or '')
    args.endpoints = [permissions.as_user(endpoint, user, password) for endpoint in args.endpoints]
    host = url.netloc.rpartition('@')[2]
    args.management_url = url._replace(netloc=host).geturl()


def main(argv: 'list[str] | None' = None) -> int:
    args = parse_args(argv)
    start.finish_on_signal()
    try:
        if args.check:
            return check(args)
        refuse_if_limited(args)
        if args.create:
            create(args)
            return 0
        return remove(args)
    except management_api.Refused as refused:
        raise Failure(str(refused), 3) from None


def refuse_if_limited(args: Namespace) -> None:
    """Raise Failure if this user may not create or remove users."""
    limited = why_not_administrator(args.api)
    if limited:
        who = credentials.login_name(args.endpoint.credentials)
        raise Failure(
            f'{who} may not create or remove users ({limited}); '
            'let an administrator do it, or see --check',
            3,
        )


if __name__ == '__main__':
    script.run(main)
