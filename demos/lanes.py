"""What the ledger of the demo tells of each process while it runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from siamese import ledger
from siamese.ledger import Event

STARTING = 'starting'
WORKING = 'working'
CUT_OFF = 'cut off'
DONE = 'done'
STATES = {'connected': WORKING, 'disconnected': CUT_OFF, 'closed': DONE}


@dataclass
class Lane:
    """One process: what it has done so far, and how it is."""

    name: str
    role: str
    state: str = STARTING
    sent: int = 0
    confirmed: int = 0
    checked: int = 0
    faults: int = 0

    def add(self, event: Event) -> None:
        """Take one line of its ledger."""
        kind = event['event']
        self.state = STATES.get(kind, self.state)
        self.faults += kind == 'disconnected'
        self.sent += kind == 'attempted' and event['attempt'] == 1
        self.confirmed += kind == 'confirmed'
        self.checked += kind == 'acked'


@dataclass
class Board:
    """The lanes of all processes, in the order in which they are shown."""

    lanes: dict[str, Lane]
    deliveries: Counter[str] = field(default_factory=Counter)  # by message

    def add(self, event: Event) -> None:
        """Take one line of the ledger that all share."""
        self.lanes[event['by']].add(event)
        if event['event'] == 'acked':
            self.deliveries[event['id']] += 1

    def total(self, name: str) -> int:
        """Return the sum of 'sent', 'confirmed' or 'checked'."""
        return sum(getattr(lane, name) for lane in self.lanes.values())

    def count_in(self, state: str) -> int:
        """Return how many processes are in a state."""
        return sum(lane.state == state for lane in self.lanes.values())

    @property
    def arrived(self) -> int:
        """How many different messages were checked."""
        return len(self.deliveries)

    @property
    def twice(self) -> int:
        """How many of them came more than once."""
        return sum(times > 1 for times in self.deliveries.values())


class Tail:
    """Reads a ledger while others append to it."""

    def __init__(self, path: str) -> None:
        self.file = open(path, 'a+', encoding='utf-8')
        self.file.seek(0)
        self.rest = ''

    def read(self, board: Board) -> None:
        """Give the board the lines that came since the last call."""
        *lines, self.rest = (self.rest + self.file.read()).split('\n')
        for line in filter(None, map(ledger.parse, lines)):
            for event in ledger.singly(line):
                board.add(event)
