#!/usr/bin/env python3
"""Read the ledgers of a run and say whether the broker can be trusted.

Every script writes a ledger with --ledger FILE; several may share one. audit.py needs no broker. It counts what
still waits in the queue as lost, so drain it first. Its words are those of Jepsen's checkers.

    $ ./audit.py run.jsonl
         3  attempted    by alice
         3  accepted     confirmed by the broker
         3  ok           came out and were checked, by carol
         0  lost         accepted, but never came out
         0  corrupt      came out altered
         0  refused      came out as sent, but a consumer found them invalid
         0  unexpected   came out, but nobody had sent them
         0  duplicated   came out again, and no fault explains it
         0  redelivered  came out again: not acknowledged, or that was lost with a connection
         0  ack lost     came out again: acknowledged, but that was lost between nodes (quorum queue)
         0  republished   came out again: the producer had seen no confirm
         0  recovered    came out, though never confirmed
         0  expired      accepted, but nobody took them within their time to live
         0  given up     rejected or lost so often that the broker gave them up
         0  returned     no queue took them: nobody listened
         0  in doubt     neither confirmed nor seen again
    valid: all that was accepted came out, unaltered, every copy explained

Lost, corrupt, refused, unexpected and duplicated messages are named, and make the verdict "invalid". Give it the
ledgers of all producers and consumers: what one of them is not told of looks lost or unexpected. Exit status: 0 valid,
1 invalid, 2 usage, 3 could not tell (nothing attempted, no consumer, or a line that cannot be read).

Examples:
    ./audit.py run.jsonl
    ./audit.py producers.jsonl validators.jsonl --json verdict.json
"""

from siamese import flags, script
from siamese import ledger as books
from siamese.text import printable
from siamese.verdict import MEANING, SHOWN, audit, judge


def main(argv=None):
    parser = flags.parser(__doc__)
    parser.add_argument('ledgers', nargs='+', metavar='FILE', help='ledgers of the run')
    flags.add_output_flags(parser)
    args = flags.parse(parser, argv)
    found = audit(books.read(args.ledgers))
    verdict, status, faults = judge(found)
    if not args.quiet:
        who = {
            name: printable(', '.join(found[name])) or 'nobody'
            for name in ('producers', 'consumers')
        }
        for name, meaning in MEANING.items():
            print(f'{len(found[name]):6}  {name:11}  {meaning.format(**who)}')
        for name in faults:
            for id in found[name][:SHOWN]:
                print(f'{name}: {printable(id)}')
            if len(found[name]) > SHOWN:
                print(f'{name}: ... and {len(found[name]) - SHOWN} more')
    script.report(
        args,
        '{verdict}',
        {
            'verdict': verdict,
            'exit_status': status,
            **{
                name: len(ids) if name in ('attempted', 'confirmed', 'ok') else ids
                for name, ids in found.items()
            },
        },
    )
    return status


if __name__ == '__main__':
    script.run(main)
