"""The sieve: one pass over the lines of ledgers that only counts what went plainly.

Plain is a message that was published once, confirmed, and acknowledged once, unaltered
and not redelivered, without an exchange and a time to live: the judge has nothing to say
of it. Such messages are kept by number, in pages (pages.py). Whatever else happens to one
of them, now or later, makes it a suspect: all that is known of it goes to the evidence,
message by message, and verdict.py judges it. So the sieve has no rules of its own: a run
has the same verdict with it as without.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from operator import lt
from typing import Any, NamedTuple

from siamese import ledger, numbered
from siamese.clocks import Process
from siamese.copies import Copy
from siamese.evidence import Evidence, mark, shared
from siamese.gathered import is_plain
from siamese.ledger import Event
from siamese.limits import Origin
from siamese.order import ChannelKey, Way
from siamese.pages import (
    ARRIVED,
    CONFIRMED,
    FINAL,
    NOTHING,
    SIZE,
    SUSPECT,
    Page,
    Row,
    Where,
    is_all,
)

WARM_PAGES = 8  # on which all is plain, and that are not yet put away

PageKey = tuple[str, int]  # what the ids of a run have in common, number of the page


class Part(NamedTuple):
    """Messages on one page, of which one line tells, in the order of their numbers."""

    key: PageKey
    numbers: Sequence[int]
    dues: list[int]  # due, how many, due, how many ...

    def where(self) -> Where:
        """Return the places of the messages on their page."""
        if isinstance(self.numbers, range):
            first = self.numbers[0] % SIZE
            last = self.numbers[-1] % SIZE
            return range(first, last + 1, self.numbers.step)
        return [number % SIZE for number in self.numbers]

    def last_name(self) -> str:
        """Return the id of the last one of the messages."""
        return numbered.name_of(self.key[0], self.numbers[-1], self.dues[-2])

    def singly(self) -> Iterator[Part]:
        """Yield a part for each message."""
        for number, due in zip(self.numbers, numbered.unpacked_dues(self.dues)):
            yield Part(self.key, range(number, number + 1), [due, 1])


class Place(NamedTuple):
    """Over which channel messages were delivered, and from which queue."""

    key: ChannelKey
    queue: str | None
    queue_type: str


class Route(NamedTuple):
    """How messages of one sender came, and the number of the Place."""

    way: Way
    place: int


class Table(dict):  # type: ignore[type-arg]
    """Numbers things in the order in which they come."""

    def __init__(self) -> None:
        super().__init__()
        self.things: list[Any] = []

    def __missing__(self, thing: NamedTuple) -> int:
        self.things.append(thing)
        return self.setdefault(thing, len(self))


class Sieve:
    """Takes the lines of ledgers; after finish() `evidence` has all that is to be judged."""

    def __init__(self) -> None:
        self.evidence = Evidence()
        self.pages: dict[PageKey, Page] = {}
        self.warm: dict[PageKey, Page] = {}
        self.early: dict[str, set[int]] = {}  # numbers that came before they were attempted
        self.senders = Table()
        self.places = Table()
        self.routes: dict[tuple[int, ChannelKey], Route] = {}
        self.takers = {
            'attempted': self._attempt,
            'confirmed': self._confirm,
            'acked': self._arrive,
        }

    def add_all(self, events: Iterable[Event]) -> None:
        """Take lines of ledgers, and those that witnesses.py makes."""
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take one line of a ledger."""
        parts = parts_of(event)
        if not parts:
            self.routes.clear()  # who connects may take another queue
            self.evidence.add_all([event])
        elif is_plain(event):
            take = self.takers[event['event']]
            for part in parts:
                if not take(event, part):
                    self._take_singly(event, part)
        else:
            for one in (one for part in parts for one in part.singly()):
                self._suspect(event, one)

    def _take_singly(self, event: Event, part: Part) -> None:
        take = self.takers[event['event']]
        for one in part.singly():
            if len(part.numbers) == 1 or not take(event, one):
                self._suspect(event, one)

    # ---- what goes plainly

    def _attempt(self, event: Event, part: Part) -> bool:
        where = part.where()
        early = self.early.get(part.key[0], ())
        page = self._page(part.key) or Page()
        if not is_whole(where) or not page.has_room(where[0]):
            return False
        if early and not early.isdisjoint(part.numbers):  # type: ignore[attr-defined]
            return False
        self.pages[part.key] = page
        key = self.evidence.key_of(event)
        count = len(where)
        sender, last = self.evidence.note_sent(event, key, count)
        digest = mark(event['digest'])
        number = last - count + 1
        page.attempt(where[0], part.dues, digest, self.senders[sender], event['at'], number)
        self.evidence.note_time(event['at'], key)
        return True

    def _confirm(self, event: Event, part: Part) -> bool:
        where = part.where()
        page = self._page(part.key)
        if not page or not page.knows(where):
            return False
        if not page.confirm(where, part.dues):
            return False
        self.evidence.note_time(event['at'], self.evidence.key_of(event))
        self._rest(part.key, page)
        return True

    def _arrive(self, event: Event, part: Part) -> bool:
        where = part.where()
        page = self._page(part.key)
        if not page or not page.knows(where):
            return False
        lines = page.lines_of(where)
        senders = page.senders[lines]
        key = self.evidence.key_of(event)
        route = self.routes.get((senders[0], key)) or self._route(senders[0], key)
        order = self.evidence.order
        if len(where) > 1:
            has_order = is_all(senders, senders[0])
            if not (has_order and order.is_next(route.way, page.order_in(lines.start, where[0]))):
                return False  # each of them by itself
        if not page.arrive(where, lines, part.dues, mark(event['digest']), route.place):
            return False
        last = lines.stop - 1
        order.came(route.way, page.order_in(last, where[-1]), part.last_name())
        self.evidence.note_crossing(route.way.sender, page.times[last], key, event['at'])
        self.evidence.consumers.add(key[0])
        self.evidence.plain_from[route.way.queue] += len(where)
        self.evidence.note_time(event['at'], key)
        self._rest(part.key, page)
        return True

    def _route(self, sender: int, key: ChannelKey) -> Route:
        queue, queue_type = self.evidence.queues.get(key[:2], (None, ''))
        place = self.places[Place(key, queue, queue_type)]
        route = Route(Way(self.senders.things[sender], queue, key), place)
        return self.routes.setdefault((sender, key), route)

    def _page(self, key: PageKey) -> Page | None:
        page = self.pages.get(key)
        if page and page.shelf:
            page.take_up()
            self._rest(key, page)
        return page

    def _rest(self, key: PageKey, page: Page) -> None:
        """Put pages away on which nothing is expected any more."""
        if page.is_over() and key not in self.warm:
            self.warm[key] = page
            if len(self.warm) > WARM_PAGES:
                coldest = next(iter(self.warm))
                self.warm.pop(coldest).put_away()

    # ---- what does not

    def _suspect(self, event: Event, part: Part) -> None:
        """Take a line that tells of one message, and that is to be judged."""
        number = part.numbers[0]
        due = part.dues[0]
        page = self._page(part.key)
        at = number % SIZE
        if not page or at >= len(page.states):
            self.early.setdefault(part.key[0], set()).add(number)
        elif page.states[at] in (NOTHING, SUSPECT) or page.row(at).due == due:
            self._take_out(part.key, page, at)
        self.evidence.add(ledger.one_of(event, number, due))

    def _take_out(self, key: PageKey, page: Page, at: int) -> None:
        """Tell the evidence what is known of a message."""
        row = page.take_out(at)
        if row.state not in (NOTHING, SUSPECT):
            self._tell(row, numbered.name_of(key[0], key[1] * SIZE + at, row.due))
        self._rest(key, page)

    def _tell(self, row: Row, name: str) -> None:
        message = self.evidence.messages[name]
        message.add_digest(1, row.mark)
        sender = self.senders.things[row.sender]
        message.origin = Origin(sender, row.at, row.number, '')
        if row.state & CONFIRMED:
            message.add_answer(1, 'confirmed')
        if row.state & ARRIVED:
            place = self.places.things[row.place]
            copy = Copy(1, place.key, redelivered=False, settled=True)
            arrival = shared(copy, 'acked', row.mark, place.queue, place.queue_type)
            message.add_arrival(arrival)
            self.evidence.plain_from[place.queue] -= 1

    def waiting_since(self) -> Iterator[tuple[Process, float]]:
        """Yield who attempted each message that is confirmed and has not come, and when."""
        for page in self.pages.values():
            for sender, at in page.waiting_since():
                yield self.senders.things[sender].key[:2], at
        for message in self.evidence.messages.values():
            if message.origin and message.got('confirmed') and not message.arrivals:
                yield message.origin.sender.key[:2], message.origin.at

    def finish(self) -> Evidence:
        """Tell the evidence of all that is not plain by now, and return it."""
        self.evidence.plain = 0
        for key, page in self.pages.items():
            self.evidence.plain += page.plain
            if page.shelf or not page.states.translate(None, FINAL):
                continue
            for at, state in enumerate(bytes(page.states)):
                if state not in FINAL:
                    self._take_out(key, page, at)
        return self.evidence


def evidence_of(events: Iterable[Event]) -> Evidence:
    """Return all that is to be judged in the lines of ledgers."""
    sieve = Sieve()
    sieve.add_all(events)
    return sieve.finish()


def is_whole(where: Where) -> bool:
    """Return whether no place is left out between the first and the last."""
    return where[-1] - where[0] == len(where) - 1


def parts_of(event: Event) -> Sequence[Part]:
    """Return the messages of which a line tells, by page; none if their ids hold no number."""
    if 'of' not in event:
        name = numbered.parts(event.get('id') or '')
        if not name:
            return ()
        one = range(name.number, name.number + 1)
        return (Part((name.of, name.number // SIZE), one, [name.due, 1]),)
    numbers = numbered.unpacked_numbers(event)
    page = numbers[0] // SIZE
    is_rising = isinstance(numbers, range) or all(map(lt, numbers, numbers[1:]))
    if is_rising and numbers[-1] // SIZE == page:
        return (Part((event['of'], page), numbers, event['due']),)
    return [*by_page(event['of'], numbers, numbered.unpacked_dues(event['due']), is_rising)]


def by_page(
    of: str,
    numbers: Sequence[int],
    dues: list[int],
    is_rising: bool,
) -> Iterator[Part]:
    """Yield parts of messages: each by itself if they are not in the order of their numbers."""
    begin = 0
    while begin < len(numbers):
        page = numbers[begin] // SIZE
        end = begin + 1
        if is_rising:
            end = bisect_left(numbers, (page + 1) * SIZE)
        some = numbered.in_steps(numbers[begin:end])
        yield Part((of, page), some, numbered.packed_dues(dues[begin:end]))
        begin = end
