"""What compare.py measures in rounds (see rounds.py): throughput and latency, by scenario 2.

A measurement is a function in MEASURED. It gets a Candidate and how many rounds there are,
and returns the Result of one of them; it raises what the checks of checks.py raise.
"""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable, Sequence

from siamese.testbed import offers
from siamese.testbed.candidate import IDLE_S, Candidate, Failed, Summary, wait_until_empty
from siamese.testbed.checks import Result
from siamese.testbed.figures import LESS, MORE, Figure
from siamese.text import FEWEST_FOR_RATE

DEFAULT_ROUNDS = 20
FEWEST_ROUNDS = 5
LEAST_BUDGET = 10  # messages for each round
LONGEST_FLOW_S = 2
LATENCY_RATE = 500  # messages/s
LATENCY_COUNT = 2 * LATENCY_RATE  # messages, in each round
WARM_UP_S = 1
THROUGHPUT_SHARE = 0.4  # of the budget, in all rounds
LATENCY_SHARE = 0.1
TOO_FEW = 'too few messages for a figure'
SETTINGS = {
    'throughput': (
        'one producer and one consumer, as fast as they can, for up to '
        f'{LONGEST_FLOW_S} s in each round'
    ),
    'latency': (
        f'one producer and one consumer, {LATENCY_RATE} msg/s, '
        f'{LATENCY_COUNT / LATENCY_RATE:g} s in each round; the first second is left out'
    ),
}


def flow(
    broker: Candidate,
    queue: str,
    *pace: object,
    warm_up_s: int = 0,
) -> tuple[Summary, Summary]:
    """Let persistent messages flow from a producer to a consumer.

    Returns their summaries. Raises Failed unless all confirmed messages were
    delivered.
    """
    offers.need(broker, offers.CONFIRMS)
    flags = ('--queue', queue)
    consumer = broker.ready('perf_consumer.py', '--warm-up', warm_up_s, *flags)
    producer = broker.run('perf_producer.py', '--persistent', *pace, *flags)
    wait_until_empty(broker, queue)
    end = broker.end(consumer, number=signal.SIGTERM)
    delivered = end['delivered']
    confirmed = producer['confirmed']
    if not confirmed:
        raise Failed('no message was confirmed')
    if delivered < confirmed:  # the consumer may have been stopped with some in hand
        rest = broker.run('perf_consumer.py', *flags, '--idle', IDLE_S)
        delivered += rest['delivered']
    if delivered != confirmed:
        raise Failed(f'{confirmed:,} confirmed, but {delivered:,} delivered')
    return producer, end


def throughput(broker: Candidate, rounds: int) -> Result:
    """As fast as one producer and one consumer can."""
    count = broker.message_budget(10**9, THROUGHPUT_SHARE / rounds, least=1)
    pace = ('--count', count, '--duration', LONGEST_FLOW_S)
    producer, consumer = flow(broker, broker.queue('fast'), *pace)
    text = 'persistent, confirmed'
    if producer['confirmed'] < FEWEST_FOR_RATE:
        return Result(f'{text}; {TOO_FEW}')
    rate = min(producer['confirmed_per_s'], consumer['delivered_per_s'])
    figure = Figure('persistent messages, confirmed and delivered', 'msg/s', MORE, [rate])
    return Result(text, {'rate': figure})


def latency(broker: Candidate, rounds: int) -> Result:
    """From the time a message is due until it is checked, at a fixed rate."""
    count = broker.message_budget(LATENCY_COUNT, LATENCY_SHARE / rounds, least=1)
    pace = ('--count', count, '--rate', LATENCY_RATE)
    warm_up_s = 0
    if count == LATENCY_COUNT:
        warm_up_s = WARM_UP_S
    producer, consumer = flow(broker, broker.queue('paced'), *pace, warm_up_s=warm_up_s)
    text = f'at {producer["confirmed_per_s"]:,.0f} of {LATENCY_RATE} msg/s'
    percentiles = consumer['latency_us']
    if count < FEWEST_FOR_RATE or not percentiles:
        return Result(f'{text}; {TOO_FEW}')
    figures = {
        'p50': Figure('latency of half of the messages', 'ms', LESS, []),
        'p99': Figure('latency of 99 of 100 messages', 'ms', LESS, []),
    }
    for name, quantile in zip(figures, ('median', 'p99')):
        figures[name].rounds = [percentiles[quantile] / 1000]
    return Result(text, figures)


def in_all_rounds(results: Sequence[Result]) -> Result:
    """Return what the results of all rounds tell together."""
    figures: dict[str, Figure] = {}
    for result in results:
        for name, figure in result.figures.items():
            figures.setdefault(name, Figure(figure.title, figure.unit, figure.better, []))
    for name, figure in figures.items():
        for result in results:
            own = result.figures.get(name)
            figure.rounds += own.rounds if own else [None]
    return Result(text_of(results, figures), figures)


def text_of(results: Sequence[Result], figures: dict[str, Figure]) -> str:
    """Return all figures, which direction is better, and what was so in most rounds."""
    if not results:
        return ''
    usual = statistics.mode(result.text for result in results)
    if not figures:
        return usual
    parts = [figure.text() for figure in figures.values()]
    if len(figures) > 1:
        parts = [f'{name} {part}' for name, part in zip(figures, parts)]
    (better,) = {figure.better for figure in figures.values()}
    return f'{", ".join(parts)}, {better} is better; {usual}'


Measurement = Callable[[Candidate, int], Result]
MEASURED: dict[str, Measurement] = {
    'throughput': throughput,
    'latency': latency,
}
