#!/usr/bin/env python3
"""Answer questions: is this number prime?

Consumes the queue siamese.rpc with prefetch 100. The answer, JSON true or
false, goes to the queue that the question names in reply_to, with the
correlation_id of the question, which is acknowledged after that. Pairs with
rpc_client.py and with any other AMQP client that asks; start any number of
both, in any order.

    $ ./rpc_server.py --count 4 & ./rpc_client.py --count 4 --quiet > runs/client.txt; wait
    1 of 4  1 is not prime
    2 of 4  3 is prime
    3 of 4  5 is prime
    4 of 4  7 is prime
    4 answered, 3 prime; 0 errors, 0 invalid, 0 unroutable; 0.6 s; stopped: count reached

A question is a whole number of up to 300 digits. The answer to any other is
{"error": "..."}; a question without reply_to is dead-lettered (siamese.dlx
-> siamese.dead). Answers are neither persistent nor confirmed: the reply
queue disappears with its client, and a client that gets no reply asks
again. A minute after its last server is gone the broker deletes the queue,
so that clients get their questions returned. Exit status: 0 done, 1
something was not a question, 2 usage, 3 nothing came, fewer than --count,
refused by the broker, or broker unavailable for --give-up-after.

Examples:
    ./rpc_server.py                                   # answer until Ctrl-C
    ./rpc_server.py --quiet --idle 60                 # stop when no question came for 60 s
"""

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import json
import logging
import re
from collections import Counter

import pika

import common
from siamese import flags, script
from siamese.messaging.deliveries import Invalid
from siamese.messaging.link import connected
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE, declare_dead_letters
from siamese.scenarios.timing import Span
from siamese.text import rate, time_and_rate

MAX_CLOSED_CONNECTIONS = 3  # in a row, each after the answer to the same question
QUEUE_EXPIRES_MS = 60_000  # without a server; then the broker deletes the queue
QUESTION = re.compile(b'0|[1-9][0-9]{0,299}')
ERROR = {'error': 'this is no whole number of 1 to 300 digits'}
VERDICTS = {True: 'prime', False: 'not prime'}

LINE = '{tally}  {number} is {verdict}'
SUMMARY = (
    '{answered} answered, {prime} prime; '
    '{errors:error}, {invalid} invalid, {unroutable} unroutable; '
    '{took}; stopped: {stopped}'
)


def declare(channel, link):
    declare_dead_letters(channel)
    channel.queue_declare(
        queue=link.args.queue,
        durable=True,
        arguments={
            'x-dead-letter-exchange': DEAD_LETTER_EXCHANGE,
            'x-queue-type': link.args.queue_type,
            'x-expires': QUEUE_EXPIRES_MS,
        },
    )
    channel.basic_qos(prefetch_count=link.args.prefetch)
    channel.basic_consume(
        queue=link.args.queue,
        on_message_callback=link.on_delivery,
        callback=link.on_ready,
    )


class Suspect:
    """The question whose answer may make the broker close the connection.

    It is the first that is redelivered over each new connection.
    """

    def __init__(self):
        self.question = None
        self.epoch = 0  # of the last connection over which a question was redelivered
        self.connections = 0  # in a row, that began with this question

    def check(self, delivery, epoch):
        """Raise Invalid if the broker has closed too many connections over this question."""
        if not delivery.redelivered or epoch <= self.epoch:
            return
        self.epoch = epoch
        properties = delivery.properties
        question = (properties.reply_to, properties.correlation_id, delivery.body)
        if question == self.question:
            self.connections += 1
        else:
            self.question = question
            self.connections = 1
        if self.connections == MAX_CLOSED_CONNECTIONS:
            raise Invalid('the broker takes no answer to it', properties.reply_to)


def check_reply_to(properties):
    """Raise Invalid if nobody can be answered."""
    if not properties.reply_to or not isinstance(properties.reply_to, str):
        # pika returns bytes if it is not UTF-8
        raise Invalid('no reply_to', properties.content_type)


def answer_to(body):
    """Return the answer to a question: True, False or ERROR."""
    if not QUESTION.fullmatch(body):
        return ERROR
    return common.is_prime(int(body))


def parse_args(argv):
    parser = flags.parser(__doc__)
    flags.add_consumer_flags(parser, prefetch=100)
    flags.add_broker_flags(parser, queue='siamese.rpc')
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    common.is_prime(2)  # loads sympy before the first question
    counts = Counter()
    span = Span()
    suspect = Suspect()
    # A returned answer is only counted: its client is gone, with the queue for answers.
    with connected(args, declare, retry_returned=False) as link:
        for delivery in link.deliveries(args.idle):
            try:
                check_reply_to(delivery.properties)
                suspect.check(delivery, link.epoch)
            except Invalid as invalid:
                delivery.reject(invalid)
                continue
            answer = answer_to(delivery.body)
            # Not link.publish(), which repeats a message until it is confirmed: if the answer
            # is lost with the connection, the question is not acked yet, and comes again.
            delivery.channel.basic_publish(
                exchange='',
                routing_key=delivery.properties.reply_to,
                body=json.dumps(answer).encode(),
                properties=pika.BasicProperties(
                    correlation_id=delivery.properties.correlation_id,
                    content_type='application/json',
                    app_id=args.name,
                ),
                mandatory=True,
            )
            delivery.ack()
            span.mark()
            count_and_log(counts, answer, delivery)
            if not args.quiet and answer != ERROR:
                show(delivery, script.tally(link.done, args.count), answer)
    link.set_exit_status(link.done, counts['errors'] + link.invalid_count)
    summary = summarize(link, counts, span)
    per_s = rate(counts['answered'], summary['answers_per_s'], '/s')
    script.report(args, SUMMARY, summary, took=time_and_rate(summary['duration_s'], per_s))
    return link.exit_status


def count_and_log(counts, answer, delivery):
    if answer == ERROR:
        counts['errors'] += 1
        logging.warning('answered with an error: %.40r', delivery.body)
        return
    counts['answered'] += 1
    if answer:
        counts['prime'] += 1


def show(delivery, tally, answer):
    print(LINE.format(tally=tally, number=int(delivery.body), verdict=VERDICTS[answer]))


def summarize(link, counts, span):
    return {
        **link.summary(),
        'published': counts['answered'] + counts['errors'],
        'answered': counts['answered'],
        'prime': counts['prime'],
        'errors': counts['errors'],
        'invalid': link.invalid_count,
        'rejections': link.rejections,
        'unroutable': link.counts['returned'],
        'answers_per_s': span.rate(counts['answered'] - 1),
    }


if __name__ == '__main__':
    script.run(main)
