#!/usr/bin/env python3
"""Answer questions: is this number prime?

Consumes the queue siamese.rpc with prefetch 100. The answer, JSON true or false, goes to the queue that the question
names in reply_to, with the correlation_id of the question, which is acknowledged after that. Pairs with rpc_client.py
and with any other AMQP client that asks; start any number of both, in any order.

    $ ./rpc_server.py --count 4 & ./rpc_client.py --count 4 --quiet > client.txt; wait
    1 of 4  1 is not prime
    2 of 4  3 is prime
    3 of 4  5 is prime
    4 of 4  7 is prime
    4 answered, 3 prime; 0 errors, 0 invalid, 0 unroutable; 0.6 s, 1,106/s; stopped: count reached

A question is a whole number of up to 300 digits. The answer to any other is {"error": "..."}; one without reply_to is
rejected into siamese.dlx -> siamese.dead. Answers are neither persistent nor confirmed: their queue ends with whoever
asked, and whoever gets no answer asks again. A minute after its last server is gone the queue is deleted, so that
clients get their questions returned. Exit status: 0 done, 1 something was no question or refused by the broker,
2 usage, 3 nothing came, fewer than --count, or no broker within --give-up-after.

Examples:
    ./rpc_server.py                                   # answer until Ctrl-C
    ./rpc_server.py --quiet --idle 60                 # until nothing was asked for a minute
"""

import json
import logging
import re
import time
from collections import Counter

import pika

from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.messaging.deliveries import Invalid

STUBBORN = 3  # connections that the broker closed after the answer to the same question
UNUSED = 60_000  # ms without a server after which the broker deletes the queue
ERROR = {'error': 'this is no whole number of 1 to 300 digits'}

LINE = '{tally}  {number} is {verdict}'
SUMMARY = (
    '{answered} answered, {prime} prime; {errors} errors, {invalid} invalid, {unroutable} unroutable; '
    '{duration_s:.1f} s, {answers_per_s:,.0f}/s; stopped: {stopped}'
)


def declare(channel, link):
    topology.declare_dead_letters(channel)
    channel.queue_declare(
        link.args.queue,
        durable=True,
        arguments={
            'x-dead-letter-exchange': topology.DEAD_LETTER_EXCHANGE,
            'x-queue-type': link.args.queue_type,
            'x-expires': UNUSED,
        },
    )
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(link.args.queue, link.on_delivery, callback=link.on_ready)


def parse_args(argv):
    parser = flags.parser(__doc__)
    flags.add_consumer_flags(parser, prefetch=100)
    flags.add_broker_flags(parser, queue='siamese.rpc')
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    from sympy import isprime  # only now: it takes 0.3 s and 30 MB

    books, first, last = Counter(), 0.0, 0.0
    suspect, epoch, times = (
        None,
        0,
        0,
    )  # what was redelivered first on the last connection, and on how many in a row
    with delivery.connected(args, declare, retry_returned=False) as link:
        for delivered in link.deliveries(args.idle):
            channel, method = delivered.channel, delivered.method
            properties, body = delivered.properties, delivered.body
            if not properties.reply_to or not isinstance(
                properties.reply_to, str
            ):  # bytes if they are no UTF-8
                delivered.reject(Invalid('no reply_to', properties.content_type))
                continue
            if method.redelivered and link.epoch > epoch:
                question = properties.reply_to, properties.correlation_id, body
                suspect, epoch, times = (
                    question,
                    link.epoch,
                    times + 1 if question == suspect else 1,
                )
                if times == STUBBORN:
                    delivered.reject(
                        Invalid('the broker takes no answer to it', properties.reply_to)
                    )
                    continue
            number = int(body) if re.fullmatch(b'0|[1-9][0-9]{0,299}', body) else None
            answer = ERROR if number is None else isprime(number)
            channel.basic_publish(
                '',
                properties.reply_to,
                json.dumps(answer).encode(),
                pika.BasicProperties(
                    correlation_id=properties.correlation_id,
                    content_type='application/json',
                    app_id=args.name,
                ),
                mandatory=True,
            )
            delivered.ack()
            last = time.monotonic()
            first = first or last
            if number is None:
                books['errors'] += 1
                logging.warning('answered with an error: %.40r', body)
                continue
            books.update(['answered', 'prime'] if answer else ['answered'])
            if not args.quiet:
                print(
                    LINE.format(
                        tally=script.tally(link.done, args.count),
                        number=number,
                        verdict='prime' if answer else 'not prime',
                    )
                )
    invalid = sum(link.rejections.values())
    link.set_exit_status(link.done, books['errors'] + invalid)
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            'answered': books['answered'],
            'prime': books['prime'],
            'errors': books['errors'],
            'invalid': invalid,
            'reasons': link.rejections,
            'unroutable': link.counts['returned'],
            'answers_per_s': round((books['answered'] - 1) / (last - first), 1)
            if last > first
            else 0,
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
