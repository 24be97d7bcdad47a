#!/usr/bin/env python3
"""Ask whether 1, 3, 5, 7 ... are prime numbers, and measure how long the answers take.

Publishes each question to the queue siamese.rpc. The answer comes to an
exclusive queue, siamese.rpc.NAME.RUN.EPOCH, which the broker deletes with
the connection. Questions are mandatory, but neither persistent nor
confirmed: a question without an answer is retried after --timeout, and one
that is returned, because no server is there, after a second. Pairs with
rpc_server.py; start any number of both, in any order.

    $ ./rpc_client.py --count 4 & ./rpc_server.py --count 4 --quiet > runs/server.txt; wait
    1 is not prime, 471.8 ms
    3 is prime, 1.3 ms
    5 is prime, 1.2 ms
    7 is prime, 1.1 ms
    4 answered, 3 prime, 0 wrong, 0 errors; 0 retried, 0 unanswered; answers: 0 late, 0 duplicate, 0 invalid
    latency min/median/p75/p95/p99/max 1.06/1.15/1.30/471/471/471 ms; stopped: count reached

An answer to an earlier attempt at the same question is late, a second
answer is a duplicate. Messages that are not answers are dead-lettered
(siamese.dlx -> siamese.dead). Exit status: 0 all answered (and right, with
--verify), 1 an answer is wrong, an error or not an answer, 2 usage, 3 no
answer, fewer than --count, refused by the broker, or broker unavailable for
--give-up-after.

Examples:
    ./rpc_client.py                                   # one question at a time, until Ctrl-C
    ./rpc_client.py --window 64 --quiet --duration 10
    ./rpc_client.py --verify --count 2000             # check the answers
"""  # noqa: E501 - sample output is as printed

if __name__ == '__main__':  # first of all, see siamese/start.py
    import sys
    from os.path import dirname, realpath

    sys.path.insert(0, dirname(realpath(__file__)))  # python -P and -I leave it out
    from siamese import start

    start.begin()

import json
import logging
import re
import time
from collections import Counter
from typing import NamedTuple, Union

import pika

import common
from siamese import flags, script
from siamese.messaging.deliveries import Invalid
from siamese.messaging.link import connected
from siamese.messaging.topology import DEAD_LETTER_EXCHANGE, declare_dead_letters
from siamese.scenarios.timing import Latencies, Span, format_percentiles
from siamese.text import count_of, rate

RETRY_RETURNED_S = 1  # after which a question is retried that was returned
LOOK_AGAIN_S = 0.1  # between looks at the clock while no answer comes
MAX_BODY_BYTES = 4096  # an answer has about 5
CORRELATION_ID = re.compile('([0-9]{0,17}[13579])-([1-9][0-9]{0,17})')  # number, attempt
COUNTED = ('published', 'answered', 'prime', 'wrong', 'errors', 'retried', 'late', 'duplicate')
VERDICTS = {True: 'prime', False: 'not prime'}

LINE = '{number} is {verdict}, {ms:.1f} ms{remark}'
SUMMARY = (
    '{answered} answered, {prime} prime, {wrong} wrong, {errors:error}; '
    '{retried} retried, {unanswered} unanswered; '
    'answers: {late} late, {duplicate} duplicate, {invalid} invalid\n'
    '{speed}; stopped: {stopped}'
)


def answer_queue(link):
    """Return the name of the queue for answers.

    Each channel has a new one: the broker may still lock the last one.
    """
    return f'siamese.rpc.{link.args.name}.{link.run}.{link.epoch}'


def declare(channel, link):
    declare_dead_letters(channel)
    channel.queue_declare(
        queue=answer_queue(link),
        exclusive=True,
        auto_delete=True,
        arguments={'x-dead-letter-exchange': DEAD_LETTER_EXCHANGE},
    )
    channel.basic_consume(
        queue=answer_queue(link),
        on_message_callback=link.on_delivery,
        callback=link.on_ready,
    )


class Answer(NamedTuple):
    """What a server says about a number."""

    number: int
    attempt: int  # of the question that it answers
    verdict: Union[bool, str]  # whether the number is prime; text is an error


def parse_answer(properties, body, highest):
    """Return the Answer in a message; `highest` is the last number asked. Raises Invalid."""
    match = None
    if isinstance(properties.correlation_id, str):  # pika returns bytes if it is not UTF-8
        match = CORRELATION_ID.fullmatch(properties.correlation_id)
    if not match or int(match[1]) > highest:
        raise Invalid('correlation_id of no question', properties.correlation_id)
    verdict = parse_verdict(body)
    if verdict is None:
        raise Invalid('neither true nor false nor an error', body[:40])
    return Answer(number=int(match[1]), attempt=int(match[2]), verdict=verdict)


def parse_verdict(body):
    """Return the True, False or text of an error that a body holds, else None."""
    if len(body) > MAX_BODY_BYTES:
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, bool):
        return content
    if isinstance(content, dict) and isinstance(content.get('error'), str):
        return content['error']
    return None


class Question(NamedTuple):
    """A question that waits for its answer."""

    number: int
    attempt: int  # how often it was published
    epoch: int  # of the channel over which it was published, which has the queue for answers
    published_at: float  # time.monotonic()
    first_published_at: float


class Questions:
    """The questions of this run: those that wait, and what became of the others."""

    def __init__(self, link):
        self.link = link
        self.args = link.args
        self.waiting = {}  # number -> Question, the one that waits longest first
        self.highest = -1  # the last number asked
        self.sent = 0  # how many messages, retries included
        self.counts = Counter()
        self.latencies = Latencies()
        self.span = Span()  # from the first question to the last answer

    def ask_new(self):
        """Publish new questions, as many as --window and --count allow."""
        limit = self.args.window
        if self.args.count:
            limit = min(limit, self.args.count - self.counts['answered'])
        while len(self.waiting) < limit and not self.link.problem:
            self.highest += 2
            self.counts['published'] += 1
            if not self.span.first:
                self.span.mark()
            now = time.monotonic()
            self._ask(Question(self.highest, 1, self.link.epoch, now, now))

    def ask_again(self):
        """Retry questions that waited too long, or whose queue for answers is gone."""
        retried = 0
        for question in list(self.waiting.values()):
            if self.link.problem or not self._is_overdue(question):
                break
            if not retried and not self.link.unroutable:
                logging.warning('no answer to %d yet, retrying', question.number)
            del self.waiting[question.number]
            self._ask(
                question._replace(
                    attempt=question.attempt + 1,
                    epoch=self.link.epoch,
                    published_at=time.monotonic(),
                )
            )
            retried += 1
        self.counts['retried'] += retried

    def _is_overdue(self, question):
        if question.epoch != self.link.epoch:
            return True
        timeout = self.args.timeout
        if self.link.unroutable:
            timeout = RETRY_RETURNED_S
        return time.monotonic() - question.published_at >= timeout

    def _ask(self, question):
        self.sent += 1
        self.waiting[question.number] = question
        self.link.publish(
            exchange='',
            routing_key=self.args.queue,
            body=b'%d' % question.number,
            properties=pika.BasicProperties(
                message_id=f'{self.args.name}-{self.link.run}-{self.sent}',
                correlation_id=f'{question.number}-{question.attempt}',
                reply_to=answer_queue(self.link),
                content_type='application/json',
                delivery_mode=pika.DeliveryMode.Transient.value,
            ),
        )

    def take_answer(self, answer):
        """Take the question of an answer from those that wait; count and show both."""
        question = self.waiting.pop(answer.number, None)
        if not question:
            self.counts['duplicate'] += 1
            return
        self.span.mark()
        took = self.span.last - question.first_published_at
        self.latencies.add(int(took * 1e6))
        self.counts['answered'] += 1
        if answer.attempt < question.attempt:
            self.counts['late'] += 1
        self._count_verdict(answer)
        if not self.args.quiet:
            show(question, answer, took)

    def _count_verdict(self, answer):
        if answer.verdict is True:
            self.counts['prime'] += 1
        if isinstance(answer.verdict, str):
            fault = 'errors'
        elif self.args.verify and answer.verdict != common.is_prime(answer.number):
            fault = 'wrong'
        else:
            return
        self.counts[fault] += 1
        logging.error('%d: the answer is %.100r', answer.number, answer.verdict)


def show(question, answer, took):
    remark = ''
    if question.attempt > 1:
        remark = f', retried {count_of(question.attempt - 1, "time")}'
    verdict = VERDICTS.get(answer.verdict, 'unknown')
    print(LINE.format(number=answer.number, verdict=verdict, ms=took * 1000, remark=remark))


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
        help='retry a question after S seconds without an answer (default: %(default)s)',
    )
    parser.add_argument(
        '--verify',
        action='store_true',
        help='check the answers (default: believe them)',
    )
    flags.add_queue_flag(parser, 'siamese.rpc')  # no --queue-type: the server declares this queue
    flags.add_broker_flags(parser)
    flags.add_stop_timeout_flag(parser, 'answers')
    return flags.parse(parser, argv)


def main(argv=None):
    args = parse_args(argv)
    if args.verify:
        common.is_prime(2)  # loads sympy before a question waits for its answer
    with connected(args, declare, window=0, retry_returned=False) as link:
        questions = Questions(link)
        while link.keep_running(questions.counts['answered']):
            questions.ask_again()
            questions.ask_new()
            wait_for_answers(link, questions)
            read_answers(link, questions)
        finish(link, questions)
    counts = questions.counts
    wrong = counts['errors'] + counts['wrong'] + link.invalid_count
    link.set_exit_status(counts['answered'], wrong)
    summary = summarize(link, questions)
    per_s = rate(counts['answered'], summary['answers_per_s'], '/s')
    speed = '; '.join(filter(None, [per_s, summary['latency']]))
    script.report(args, SUMMARY, summary, speed=speed)
    return link.exit_status


def finish(link, questions):
    """Wait for the answers to what was asked, for at most --stop-timeout; raise Failure.

    A question that is returned, because no server is there, is not waited for.
    """
    while questions.waiting and not link.unroutable:
        if link.is_overdue():
            what = f'{count_of(len(questions.waiting), "question")} without an answer'
            raise link.unfinished(what, 'no server answers')
        wait_for_answers(link, questions)
        read_answers(link, questions)
        questions.ask_again()


def wait_for_answers(link, questions):
    """Wait until an answer is there, or nothing is waiting, but not longer than LOOK_AGAIN_S."""
    look_again_at = time.monotonic() + LOOK_AGAIN_S

    def may_go_on():
        if link.inbox or time.monotonic() > look_again_at:
            return True
        return not questions.waiting and not link.problem  # then new ones may be asked

    link.wait_until(may_go_on)


def read_answers(link, questions):
    """Read and acknowledge the answers that are there."""
    last = None
    for delivery in link.waiting_deliveries():
        try:
            answer = parse_answer(delivery.properties, delivery.body, questions.highest)
        except Invalid as invalid:
            delivery.reject(invalid)
            continue
        link.unroutable = False  # there is a server
        last = delivery
        questions.take_answer(answer)
    if last:
        # Not delivery.ack(): the ledger holds the questions of a client, and not its answers.
        last.channel.basic_ack(delivery_tag=last.method.delivery_tag, multiple=True)


def summarize(link, questions):
    percentiles = questions.latencies.percentiles()
    latency = 'no answer'
    if percentiles:
        latency = f'latency {"/".join(percentiles)} {format_percentiles(percentiles)}'
    return {
        **link.summary(),
        **{name: questions.counts[name] for name in COUNTED},
        'unanswered': len(questions.waiting),
        'invalid': link.invalid_count,
        'rejections': link.rejections,
        'unroutable': link.counts['returned'],
        'latency_us': percentiles,
        'latency': latency,
        'answers_per_s': questions.span.rate(questions.counts['answered']),
    }


if __name__ == '__main__':
    script.run(main)
