#!/usr/bin/env python3
"""Ask whether 1, 3, 5, 7 ... are prime numbers, and measure how long the answers take.

Publishes each question to the queue siamese.rpc. The answer comes to an exclusive queue, siamese.rpc.NAME.RUN.EPOCH,
which ends with the connection. Questions are mandatory, but neither persistent nor confirmed: what is not answered in
time is retried, and what is returned, because no server is there, after a second. Pairs with rpc_server.py; start
any number of both, in any order.

    $ ./rpc_client.py --count 4 & ./rpc_server.py --count 4 --quiet > server.txt; wait
    1 is not prime, 471.8 ms
    3 is prime, 1.3 ms
    5 is prime, 1.2 ms
    7 is prime, 1.1 ms
    4 answered, 3 prime, 0 wrong, 0 errors; 0 retried, 0 unanswered; answers: 0 late, 0 duplicate, 0 invalid
    8/s; latency min/median/p75/p95/p99/max 1.06/1.15/1.30/471/471/471 ms; stopped: count reached

An answer to an earlier asking of the same number is late, a second one is a duplicate; what is no answer at all is
rejected into siamese.dlx -> siamese.dead. Exit status: 0 all answered (and right, with --verify), 1 one answer is
wrong, an error or none at all, or refused by the broker, 2 usage, 3 no answer, fewer than --count, or no broker within
--give-up-after.

Examples:
    ./rpc_client.py                                   # one question after the other, until Ctrl-C
    ./rpc_client.py --window 64 --quiet --duration 10
    ./rpc_client.py --verify --count 2000             # check the answers
"""

import json
import logging
import math
import re
import time
from collections import Counter, namedtuple

import pika

import common
from siamese import flags, script
from siamese.messaging import link as delivery
from siamese.messaging import topology
from siamese.messaging.deliveries import Invalid
from siamese.scenarios import performance as perf

RETURNED = 1  # s after which a question is retried that was returned
MAX_BODY = 4096  # bytes; an answer has about 5
KINDS = ('answered', 'prime', 'wrong', 'errors', 'again', 'late', 'duplicate')
VERDICTS = {True: 'prime', False: 'not prime'}

Question = namedtuple('Question', 'number first_asked asked epoch times')

LINE = '{number} is {verdict}, {ms:.1f} ms{remark}'
SUMMARY = (
    '{answered} answered, {prime} prime, {wrong} wrong, {errors} errors; {again} retried, {unanswered} '
    'unanswered; answers: {late} late, {duplicate} duplicate, {invalid} invalid\n'
    '{answers_per_s:,.0f}/s; {latency}; stopped: {stopped}'
)


def answer_queue(link):
    """Return the name of the queue for answers: a new one for each channel, the broker may still lock the last one."""
    return f'siamese.rpc.{link.args.name}.{link.run}.{link.epoch}'


def declare(channel, link):
    topology.declare_dead_letters(channel)
    channel.queue_declare(
        answer_queue(link),
        exclusive=True,
        auto_delete=True,
        arguments={'x-dead-letter-exchange': topology.DEAD_LETTER_EXCHANGE},
    )
    channel.basic_consume(answer_queue(link), link.on_delivery, callback=link.on_ready)


def ask(link, number, before=None):
    """Publish a question; `before` is the last one for the same number. Return the Question."""
    now, times = time.monotonic(), before.times + 1 if before else 1
    link.publish(
        '',
        link.args.queue,
        b'%d' % number,
        pika.BasicProperties(
            message_id=f'{link.args.name}-{link.run}-{number}-{times}',
            correlation_id=f'{number}-{times}',
            reply_to=answer_queue(link),
            content_type='application/json',
            delivery_mode=1,
        ),
    )
    return Question(number, before.first_asked if before else now, now, link.epoch, times)


def ask_again(link, waiting):
    """Ask again what waits too long for its answer, or expects it in a queue that is gone; return how many."""
    patience, again = RETURNED if link.unroutable else link.args.timeout, 0
    for question in list(waiting.values()):  # the one that waits longest first
        if link.problem or script.stop_requested():
            break
        if question.epoch == link.epoch and time.monotonic() - question.asked < patience:
            break
        if not again and not link.unroutable:
            logging.warning('no answer to %d yet, asking again', question.number)
        del waiting[question.number]
        waiting[question.number] = ask(link, question.number, question)
        again += 1
    return again


def read(properties, body, highest):
    """Return (number, times, answer) of an answer: the answer is True, False, or text that tells of an error.

    `highest` is the last number asked. Raises Invalid.
    """
    id = (
        properties.correlation_id if isinstance(properties.correlation_id, str) else ''
    )  # bytes if they are no UTF-8
    named = re.fullmatch('([0-9]{0,17}[13579])-([1-9][0-9]{0,17})', id)
    if not named or int(named[1]) > highest:
        raise Invalid('correlation_id of no question', properties.correlation_id)
    try:
        answer = json.loads(body) if len(body) <= MAX_BODY else None
    except (ValueError, RecursionError):
        answer = None
    error = answer.get('error') if isinstance(answer, dict) else None
    if not isinstance(answer, bool) and not isinstance(error, str):
        raise Invalid('neither true nor false nor an error', body[:40])
    return int(named[1]), int(named[2]), answer if error is None else error


def parse_args(argv):
    parser = flags.parser(__doc__)
    parser.add_argument(
        '--window',
        type=flags.number(int, 1, 1000),
        default=1,
        metavar='N',
        help='questions that wait for their answers at once (default: %(default)s)',
    )
    parser.add_argument(
        '--timeout',
        type=flags.number(float, 0.001),
        default=5,
        metavar='S',
        help='ask again after S seconds without an answer (default: %(default)s)',
    )
    parser.add_argument('--verify', action='store_true', help='check the answers')
    parser.add_argument(
        '--queue', type=flags.name, default='siamese.rpc', help='default: %(default)s'
    )
    flags.add_broker_flags(parser)
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    if args.verify:
        common.is_prime(2)  # loads sympy, before a question waits for its answer
    books, latencies, began, last = Counter(), perf.Latencies(), 0.0, 0.0
    waiting, highest = {}, -1  # number -> Question, what waits longest first; the last number asked
    with delivery.connected(args, declare, window=0, retry_returned=False) as link:
        while link.keep_running(books['answered']):
            soon = time.monotonic() + delivery.TICK_S
            link.wait_until(
                lambda soon=soon: (
                    link.inbox or time.monotonic() > soon or not (waiting or link.problem)
                )
            )
            while link.inbox:
                delivered = link.inbox.popleft()
                channel, method = delivered.channel, delivered.method
                properties, body = delivered.properties, delivered.body
                try:
                    number, times, answer = read(properties, body, highest)
                except Invalid as invalid:
                    delivered.reject(invalid)
                    continue
                delivered.ack()
                link.unroutable = False
                question = waiting.pop(number, None)
                if not question:
                    books['duplicate'] += 1
                    continue
                began, last = began or question.first_asked, time.monotonic()
                latencies.add(int((last - question.first_asked) * 1e6))
                kinds = {
                    'answered': True,
                    'prime': answer is True,
                    'errors': isinstance(answer, str),
                    'late': times < question.times,
                    'wrong': args.verify
                    and answer in VERDICTS
                    and answer != common.is_prime(number),
                }
                books.update(kind for kind, applies in kinds.items() if applies)
                if kinds['wrong'] or kinds['errors']:
                    logging.error('%d: the answer is %.100r', number, answer)
                if not args.quiet:
                    print(
                        LINE.format(
                            number=number,
                            verdict=VERDICTS.get(answer, 'unknown'),
                            ms=(last - question.first_asked) * 1000,
                            remark=f', asked {question.times} times' if question.times > 1 else '',
                        )
                    )
            books['again'] += ask_again(link, waiting)
            while (
                len(waiting) < min(args.window, (args.count or math.inf) - books['answered'])
                and not link.problem
            ):
                highest += 2
                waiting[highest] = ask(link, highest)
    invalid, percentiles = sum(link.rejections.values()), latencies.percentiles()
    link.set_exit_status(books['answered'], books['errors'] + books['wrong'] + invalid)
    script.report(
        args,
        SUMMARY,
        {
            **link.summary(),
            **{kind: books[kind] for kind in KINDS},
            'unanswered': len(waiting),
            'invalid': invalid,
            'reasons': link.rejections,
            'returned': link.counts['returned'],
            'latency_us': percentiles,
            'latency': f'latency {"/".join(percentiles)} {perf.shown(percentiles)}'
            if percentiles
            else 'no answer',
            'answers_per_s': round(books['answered'] / (last - began), 1) if last > began else 0,
        },
    )
    return link.exit_status


if __name__ == '__main__':
    script.run(main)
