#!/usr/bin/env python3
"""Scenario 1 in one terminal: a story of 20 s in which the broker dies, and the verdict.

Two producers mine blocks, two validators check them; in the middle the broker is
killed and started again. With AMQP_URL set it is that broker: it is left alone, but
every connection is cut for some seconds. In real life each process has its own
terminal, or its own machine. On a terminal each has a lane, elsewhere there are plain
lines. At the end nothing is left: no process, no file, no queue. See make demo.

Exit status: that of audit.py, 0 valid, 1 invalid, 3 could not tell; 130 after a signal.
"""

import sys
from pathlib import Path

if __name__ == '__main__':  # first of all, see siamese/start.py
    folder = Path(__file__).resolve().parent
    sys.path[:0] = [str(folder), str(folder.parent)]  # python -P and -I leave them out
    from siamese import start

    start.begin()

import contextlib
from collections.abc import Sequence
from typing import Union

import stage
import venue
from cast import Cast, perform
from lanes import CUT_OFF, Board, Lane, Tail

import common
from siamese import flags, ledger, script, terminal, verdict
from siamese.testbed.guard import Guard, Processes

PRODUCERS = ('alice', 'bob')
VALIDATORS = ('carol', 'dave')
EVERYBODY = (*PRODUCERS, *VALIDATORS)
BLOCKS = 300  # of each producer
RATE = 20  # blocks/s
DIFFICULTY = 3
FAULT_AT = 120  # blocks that are confirmed
ARRIVED_WITHIN_S = 20

PROVED = (
    'Proved: {in_words} while {who} were at work, and '
    'all {confirmed} blocks that the broker confirmed still came out, unaltered{copies}.'
)
AT_WORK = {  # by the producers among them
    2: 'two producers and two validators',
    1: 'a producer and two validators',
    0: 'two validators',
}
NOT_PROVED = 'Not proved: what the broker confirmed did not all come out as it should; see above.'
NEXT = """Try next:
  make perf        how fast is this broker?
  make dashboard   the same in your browser
  make shell       a broker of your own, to break by hand"""

Broker = Union[venue.Own, venue.Theirs]


class Story:
    """Four processes at work, and the view of them."""

    def __init__(
        self,
        broker: Broker,
        view: stage.Plain,
        processes: Processes,
    ) -> None:
        self.broker = broker
        self.view = view
        self.cast = Cast(processes, self.look)
        self.ledger = f'{self.cast.folder}/ledger'
        lanes = [Lane(name, 'producer') for name in PRODUCERS]
        lanes += [Lane(name, 'validator') for name in VALIDATORS]
        self.board = Board({lane.name: lane for lane in lanes})
        self.tail = Tail(self.ledger)
        self.who = ''  # was at work when the fault came

    def look(self) -> None:
        """Show how far it is."""
        self.tail.read(self.board)
        self.view.show(self.board)

    def play(self) -> None:
        """Tell the story until every block has arrived."""
        self.view.event(self.broker.what)
        self.cast.wait_for(venue.in_background(self.broker.open))
        self.broker.prepare()
        self.begin_work()
        self.cast.until(lambda: self.board.total('confirmed'), EVERYBODY)
        is_remembered = venue.in_background(self.broker.remember)
        self.cast.until(lambda: self.board.total('confirmed') >= FAULT_AT, EVERYBODY)
        self.cast.wait_for(is_remembered)
        self.break_down()
        self.cast.until(lambda: not any(map(self.cast.is_running, PRODUCERS)), EVERYBODY)
        self.cast.check(PRODUCERS)
        self.view.event('the producers are done: every block is confirmed')
        self.until_arrived()
        self.cast.ask_to_end(*VALIDATORS)
        self.tell_of_copies()

    def begin_work(self) -> None:
        self.view.event('two producers mine blocks, two validators check each of them')
        for name in VALIDATORS:
            self.begin(name, 'validate.py')
        for name in PRODUCERS:
            self.begin(name, 'producer.py', '--count', BLOCKS, '--rate', RATE)

    def begin(self, name: str, program: str, *more: object) -> None:
        who_and_where = ['--name', name, '--queue', venue.QUEUE, '--ledger', self.ledger]
        self.cast.begin(
            name,
            program,
            *[*who_and_where, '--difficulty', DIFFICULTY, '--quiet', *more],
            AMQP_URL=self.broker.url,
            DEAD_LETTER_PREFIX=venue.PREFIX,
        )

    def break_down(self) -> None:
        """Let the fault come, and go."""
        self.who = AT_WORK[self.running(PRODUCERS)]
        self.cast.wait_for(venue.in_background(self.broker.break_down))
        self.view.event(self.broker.fault, terminal.RED)
        # On a slow machine a producer may be done by now.
        self.cast.until(lambda: self.board.count_in(CUT_OFF) == self.running(EVERYBODY), EVERYBODY)
        self.cast.pause(self.broker.repair_after_s)
        self.view.event(self.broker.repair, terminal.YELLOW)
        self.cast.wait_for(venue.in_background(self.broker.recover))
        self.cast.until(lambda: not self.board.count_in(CUT_OFF), EVERYBODY)
        text = 'all are back; what was not confirmed is published once more'
        self.view.event(text, terminal.GREEN)

    def running(self, names: Sequence[str]) -> int:
        """Return how many of them have not ended."""
        return sum(map(self.cast.is_running, names))

    def until_arrived(self) -> None:
        """Wait until every confirmed block was checked, unless none comes for a while."""
        with contextlib.suppress(common.Failure):  # the verdict tells what is missing
            confirmed = self.board.total('confirmed')
            self.cast.until(lambda: self.board.arrived >= confirmed, within_s=ARRIVED_WITHIN_S)

    def tell_of_copies(self) -> None:
        twice = self.board.twice
        if twice:
            text = f'{twice} came twice: the fault has to explain each of them'
            self.view.event(text, terminal.YELLOW)
        self.look()

    def audit(self) -> int:
        """Show what audit.py says, what that proves, and what to try; return the status."""
        status = self.cast.run('audit.py', self.ledger)
        text = NOT_PROVED
        if not status:
            found = verdict.audit(ledger.read([self.ledger]))
            text = proved(found, self.broker.in_words, self.who)
        print()
        terminal.show(text, colour=terminal.colour_of(status), indent=0)
        print('\n' + NEXT)
        return status


def proved(found: verdict.Found, in_words: str, who: str) -> str:
    """Return in one sentence what the audit has proved."""
    twice = {*found['redelivered'], *found['republished'], *found['ack_lost']}
    copies = ', each of them once'
    if twice:
        copies = f'; {len(twice)} came twice, and the fault explains why'
    return PROVED.format(
        in_words=in_words,
        who=who,
        confirmed=len(found['confirmed']),
        copies=copies,
    )


def main(argv: 'list[str] | None' = None) -> int:
    parser = flags.parser(__doc__)
    flags.add_color_flag(parser)
    terminal.choose(parser.parse_args(argv).color)
    flags.set_up_log('make demo', verbose=False)
    return perform(tell)


def tell() -> int:
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(venue.chosen())
        processes = stack.enter_context(contextlib.closing(Processes(Guard('demo'))))
        with stage.chosen(BLOCKS) as view:
            story = Story(broker, view, processes)
            story.play()
        print()
        return story.audit()


if __name__ == '__main__':
    script.run(main)
