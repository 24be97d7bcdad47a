#!/usr/bin/env python3
"""Read the ledgers of a run and say whether the broker can be trusted.

Every script writes a ledger with --ledger FILE; several may share one.
audit.py needs no broker. It counts messages that still wait in the queue as
lost, so drain it first. What a queue was told to drop (x-max-length and the like)
is not lost: ledgers hold the arguments of queues, and --management-url tells their
policies. It also tells how many messages still wait. --dead looks for messages among
the dead letters. Attempted, ok, lost, unexpected, duplicated and recovered are the
words of Jepsen's queue checker.

    $ ./audit.py runs/run.jsonl
         3  attempted            by alice
         3  confirmed            by the broker
         3  ok                   delivered and checked, by carol
         0  in all 17 other kinds (--verbose lists them)
    valid: every confirmed message was delivered unaltered, and every copy is explained

Messages that are lost, corrupt, rejected as invalid, unexpected or duplicated
are named, and make the verdict "invalid"; a line says where to look next. Give it
the ledgers of all producers and consumers: a message that one of them handled
without a ledger looks lost or unexpected. Exit status: 0 valid, 1 invalid, 2 usage,
3 could not tell (nothing attempted, no consumer, an unreadable line, dead letters
that cannot be read, or Ctrl-C, which ends it with what is known so far).

Examples:
    ./audit.py runs/run.jsonl
    ./audit.py runs/producers.jsonl runs/validators.jsonl --json runs/verdict.json
    ./audit.py runs/                                  # all *.jsonl and *.jsonl.gz there
    ./audit.py runs/ --follow                         # the verdict while it runs
    zcat runs/*.gz | ./audit.py -                     # .gz is read by itself, too
    ./audit.py runs/run.jsonl --dead siamese.db       # the history of monitor.py
    ./audit.py runs/run.jsonl --dead "$AMQP_URL"      # what lies in siamese.dead, and stays there
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

from siamese import flags, ledger, script, start, terminal
from siamese.following import Follower, can_grow
from siamese.monitoring.verdicts import store_verdict
from siamese.progress import Progress
from siamese.sieve import Sieve
from siamese.text import printable
from siamese.verdict import (
    FAULTS,
    MEANING,
    NAMED_PER_FAULT,
    PLAIN_KINDS,
    counts,
    hints,
    judge,
    judge_all,
    reasons,
    words,
)

LINE = '{count:6}  {kind:19}  {meaning}'
MEANING_COLUMN = 29
ZEROS = '{count:6}  in all {others} other kinds (--verbose lists them)'


def show_counts(found, numbers, all_kinds):
    """Print how many messages there are of each kind; without `all_kinds` fold the zeros."""
    names = {}
    for role in ('producers', 'consumers'):
        names[role] = printable(', '.join(found[role])) or 'none'
    shown = [kind for kind in MEANING if all_kinds or numbers[kind] or kind in PLAIN_KINDS]
    for kind in shown:
        count = numbers[kind]
        meaning = MEANING[kind].format(**names)
        line = LINE.format(count=count, kind=words(kind), meaning=meaning)
        colour = terminal.RED if kind in FAULTS and count else ''
        terminal.show(line, colour=colour, indent=MEANING_COLUMN)
    if len(shown) < len(MEANING):
        print(ZEROS.format(count=0, others=len(MEANING) - len(shown)))


def show_faults(found, faults):
    for kind in faults:
        messages = found[kind]
        for message_id in messages[:NAMED_PER_FAULT]:
            print(f'{words(kind)}: {printable(message_id)}')
        if len(messages) > NAMED_PER_FAULT:
            print(f'{words(kind)}: ... and {len(messages) - NAMED_PER_FAULT} more')


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        'ledgers',
        nargs='+',
        metavar='FILE',
        help='ledgers of the run; FILE.gz, - for stdin, or a folder of *.jsonl and *.jsonl.gz',
    )
    parser.add_argument(
        '--dead',
        action='append',
        default=[],
        metavar='FILE|URL',
        help='where the dead letters are: a history of monitor.py, or the AMQP URL of a broker, '
        'whose siamese.dead is looked through and keeps them (default: not asked)',
    )
    parser.add_argument(
        '--management-url',
        metavar='URL',
        help='http://user:password@host:port of a management API, which tells the policies '
        'of the queues, and how many messages still wait there (default: not asked)',
    )
    add_follow_flags(parser)
    flags.add_output_flags(parser)
    flags.add_verdict_flag(parser)
    args = flags.parse(parser, argv)
    if args.until_closed and not args.follow:
        parser.error('--until-closed needs --follow')
    if args.follow and not all(map(can_grow, args.ledgers)):
        parser.error('--follow needs ledgers that are files, and not compressed')
    return args


def add_follow_flags(parser):
    group = parser.group('following')
    group.add_argument(
        '--follow',
        action='store_true',
        help='read ledgers while they grow, and tell each fault once it is proven; of a folder '
        'all *.jsonl, new ones too; the report comes on Ctrl-C',
    )
    group.add_argument(
        '--until-closed',
        action='store_true',
        help='end --follow when every script has closed its connection',
    )
    group.add_argument(
        '--late',
        type=flags.number(float, 0),
        default=10,
        metavar='S',
        help='of a message that was confirmed and has not come for S seconds --follow says '
        'that it is late (default: %(default)s)',
    )


def sift(args, progress):
    """Read the ledgers, and ask the other witnesses; return the evidence."""
    if args.follow:
        sieve = Follower(args.ledgers, args.late).follow(args.until_closed)
    else:
        sieve = Sieve()
        sieve.add_all(progress.watch(ledger.Files(args.ledgers)))
    if args.dead or args.management_url:
        add_witnesses(args, sieve)
    return sieve.finish()


def add_witnesses(args, sieve):
    """Ask whoever else may know."""
    from siamese.monitoring import witnesses  # it takes longer than a short ledger

    for source in args.dead:
        sieve.add_all(witnesses.dead_letters(source))
    if args.management_url:
        sieve.add_all(witnesses.queues(args.management_url, sieve.evidence.vhosts))


def main(argv=None):
    args = parse_args(argv)
    start.finish_on_signal()
    progress = Progress()
    evidence = sift(args, progress)
    found = judge_all(evidence)
    numbers = counts(found, evidence.plain)
    verdict = judge(found, evidence.plain, progress.interrupted)
    if not args.quiet:
        show_counts(found, numbers, args.verbose)
        show_faults(found, verdict.faults)
        for line in (*reasons(found), *found['notes'], *hints(verdict.faults)):
            terminal.show(line)
    summary = {'verdict': verdict.text, 'exit_status': verdict.exit_status, **found}
    for kind in PLAIN_KINDS:  # JSON has their number, and names the others
        summary[kind] = numbers[kind]
    script.report(args, '{verdict}', summary)
    store_verdict(args, summary)
    return verdict.exit_status


if __name__ == '__main__':
    script.run(main)
