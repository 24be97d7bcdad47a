#!/usr/bin/env python3
"""Read the ledgers of a run and say whether the broker can be trusted.

Every script writes a ledger with --ledger FILE; several may share one.
audit.py needs no broker. It counts messages that still wait in the queue as
lost, so drain it first. Attempted, ok, lost, unexpected, duplicated and
recovered are the words of Jepsen's queue checker.

    $ ./audit.py runs/run.jsonl
         3  attempted            by alice
         3  confirmed            by the broker
         3  ok                   delivered and checked, by carol
         0  lost                 confirmed, but never delivered
         0  corrupt              delivered altered
         0  rejected as invalid  delivered as published, but a consumer found them invalid
         0  unexpected           delivered, but no producer published them
         0  duplicated           delivered again, and no fault explains it
         0  redelivered          delivered again: not acked, or the ack was lost with a connection
         0  ack lost             delivered again: acked, but that was lost between nodes (quorum)
         0  republished          delivered again: the producer had seen no confirm
         0  recovered            delivered, though never confirmed
         0  expired              confirmed, but not consumed within their time to live
         0  delivery limit       rejected or left unacked so often that the broker dropped them
         0  returned             unroutable: no queue took them
         0  in doubt             neither confirmed nor seen again
    valid: every confirmed message was delivered unaltered, and every copy is explained

Messages that are lost, corrupt, rejected as invalid, unexpected or duplicated
are named, and make the verdict "invalid". Give it the ledgers of all producers
and consumers: a message that one of them handled without a ledger looks lost or
unexpected. Exit status: 0 valid, 1 invalid, 2 usage, 3 could not tell (nothing
attempted, no consumer, or an unreadable line).

Examples:
    ./audit.py runs/run.jsonl
    ./audit.py runs/producers.jsonl runs/validators.jsonl --json runs/verdict.json
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

from siamese import flags, ledger, script
from siamese.text import printable
from siamese.verdict import MEANING, NAMED_PER_FAULT, audit, judge, words

COUNTED = ('attempted', 'confirmed', 'ok')  # JSON has their number, and names the others
LINE = '{count:6}  {kind:19}  {meaning}'


def show_counts(found):
    names = {}
    for role in ('producers', 'consumers'):
        names[role] = printable(', '.join(found[role])) or 'none'
    for kind, meaning in MEANING.items():
        count = len(found[kind])
        print(LINE.format(count=count, kind=words(kind), meaning=meaning.format(**names)))


def show_faults(found, faults):
    for kind in faults:
        messages = found[kind]
        for message_id in messages[:NAMED_PER_FAULT]:
            print(f'{words(kind)}: {printable(message_id)}')
        if len(messages) > NAMED_PER_FAULT:
            print(f'{words(kind)}: ... and {len(messages) - NAMED_PER_FAULT} more')


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument('ledgers', nargs='+', metavar='FILE', help='ledgers of the run')
    flags.add_output_flags(parser)
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    found = audit(ledger.read(args.ledgers))
    verdict = judge(found)
    if not args.quiet:
        show_counts(found)
        show_faults(found, verdict.faults)
    summary = {'verdict': verdict.text, 'exit_status': verdict.exit_status, **found}
    for kind in COUNTED:
        summary[kind] = len(found[kind])
    script.report(args, '{verdict}', summary)
    return verdict.exit_status


if __name__ == '__main__':
    script.run(main)
