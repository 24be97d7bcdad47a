"""A relay in front of a broker that keeps what passes: the truth about a run, whatever it says.

It knows the frames of AMQP 0-9-1 from the specification, and nothing of ours but the ids of
messages.
"""

import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from siamese.testbed.product import free_ports

READ_BYTES = 1 << 18
FRAME = struct.Struct('>BHI')  # type, channel, size; a byte ends it
ACK = struct.Struct('>HHQB')  # class, method, delivery tag, bits
TAG = struct.Struct('>QB')
METHOD, HEADER = 1, 2
PUBLISH, DELIVER = b'\0\x3c\0\x28', b'\0\x3c\0\x3c'
CONFIRM, NACK = b'\0\x3c\0\x50', b'\0\x3c\0\x78'  # basic.ack goes both ways
PROTOCOL_HEADER_BYTES = 8
# Of the perf pair, or of a script with the name producer.
MESSAGE_ID = re.compile(rb'[0-9a-f]{8}-[0-9]{10}-[0-9]{16}|producer-[0-9a-f]{8}-[0-9]+')


@dataclass
class Delivered:
    """A copy of a message on its way to a consumer."""

    id: str
    redelivered: bool


@dataclass
class Conversation:
    """What passed over one connection: `up` to the broker, `down` to the client."""

    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)


@dataclass
class Truth:
    """What was on the wire. published: how often each id; deliveries: of each connection."""

    published: dict[str, int] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    acked: set[str] = field(default_factory=set)
    deliveries: list[list[Delivered]] = field(default_factory=list)

    def copies(self):
        """Return how often each message was delivered without the flag."""
        found = {}
        for connection in self.deliveries:
            for one in connection:
                found[one.id] = found.get(one.id, 0) + (not one.redelivered)
        return found


class Wiretap:
    """The relay; `url` leads through it. `on_up` is told what clients send, before the broker."""

    def __init__(self, url):
        self.on_up = lambda data: None
        parts = urlsplit(url)
        self.target = (parts.hostname, parts.port)
        (port,) = free_ports(1)
        self.url = parts._replace(
            netloc=f'{parts.username}:{parts.password}@127.0.0.1:{port}'
        ).geturl()
        self.conversations = []
        self.threads = []
        self.server = socket.create_server(('127.0.0.1', port))
        self.accepting = self._thread(self._accept)

    def _thread(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def _accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:  # close()
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:  # the broker is dead
                client.close()
                continue
            conversation = Conversation()
            self.conversations.append(conversation)
            self._thread(relay, client, server, conversation.up, lambda data: self.on_up(data))
            self._thread(relay, server, client, conversation.down)

    def close(self):
        """End when all connections have ended."""
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        for thread in self.threads:
            thread.join()

    def truth(self):
        """Return what passed."""
        truth = Truth()
        for conversation in self.conversations:
            note_published(conversation, truth)
            note_delivered(conversation, truth)
        return truth


def relay(source, target, record, tell=lambda data: None):
    """Hand on what comes, tell and keep it; end both ways with the first that ends."""
    with suppress(OSError):  # killed
        while data := source.recv(READ_BYTES):
            tell(data)
            record += data
            target.sendall(data)
    hang_up(source)
    hang_up(target)


def hang_up(connection):
    with suppress(OSError):  # it has ended already
        connection.shutdown(socket.SHUT_RDWR)


def frames(data, at=0):
    """Yield type and payload of each whole frame."""
    while at + FRAME.size <= len(data):
        kind, _, size = FRAME.unpack_from(data, at)
        at += FRAME.size
        if at + size < len(data):
            yield kind, bytes(data[at : at + size])
        at += size + 1


def ids_after(method, data, at=0):
    """Yield (arguments of the method, id) of each message that such a method carries."""
    arguments = None
    for kind, payload in frames(data, at):
        if kind == METHOD:
            arguments = payload[4:] if payload[:4] == method else None
        elif kind == HEADER and arguments is not None:
            found = MESSAGE_ID.search(payload)
            if found:
                yield arguments, found[0].decode()


def answered(data, tags, at=0):
    """Yield the ids of `tags` that basic.ack names; drop those that basic.nack does."""
    for kind, payload in frames(data, at):
        if kind != METHOD or payload[:4] not in (CONFIRM, NACK):
            continue
        _, _, tag, bits = ACK.unpack_from(payload)
        for each in [*earlier(tags, tag)] if bits & 1 else [tag]:
            id = tags.pop(each, None)
            if id and payload[:4] == CONFIRM:
                yield id


def earlier(tags, last):
    """Yield the tags up to one; they are in rising order."""
    for tag in tags:
        if tag > last:
            return
        yield tag


def note_published(conversation, truth):
    ids = [id for _, id in ids_after(PUBLISH, conversation.up, PROTOCOL_HEADER_BYTES)]
    for id in ids:
        truth.published[id] = truth.published.get(id, 0) + 1
    truth.confirmed.update(answered(conversation.down, dict(enumerate(ids, 1))))


def note_delivered(conversation, truth):
    copies = []
    tags = {}
    for arguments, id in ids_after(DELIVER, conversation.down):
        tag, bits = TAG.unpack_from(arguments, 1 + arguments[0])
        tags[tag] = id
        copies.append(Delivered(id, bool(bits & 1)))
    if copies:
        truth.deliveries.append(copies)
        truth.acked.update(answered(conversation.up, tags, PROTOCOL_HEADER_BYTES))
