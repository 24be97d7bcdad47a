"""The properties of a message, decoded when a script looks at them.

pika decodes them all at once, and those that it cannot decode end the connection.
"""

from __future__ import annotations

from typing import Any

import pika

from siamese.messaging import frames


class PropertiesDecoder:
    """Decodes the properties of one connection, and remembers the last ones.

    Most messages of a run differ from the one before in the message_id only.
    Then the message_id is all that is decoded.
    """

    __slots__ = ('attributes', 'head', 'size', 'tail')

    def __init__(self) -> None:
        self.size = -1  # bytes of the last properties; -1: none are remembered
        self.head = b''  # their bytes before the text of the message_id
        self.tail = b''  # their bytes after it
        self.attributes: dict[str, Any] = {}

    def decode(self, encoded: bytes) -> pika.BasicProperties:
        """Decode all properties, and remember them.

        Properties that cannot be decoded get a content_type that says why.
        """
        decoded = pika.BasicProperties()
        try:
            decoded = decoded.decode(encoded)
        except Exception as error:  # noqa: BLE001  as invalid bytes may raise any
            why = error or type(error).__name__
            content_type = f'undecodable: {why}'
            decoded = pika.BasicProperties(content_type)
        self._remember(encoded, decoded)
        return decoded

    def _remember(self, encoded: bytes, decoded: pika.BasicProperties) -> None:
        message_id = decoded.message_id
        if not isinstance(message_id, str) or not message_id.isascii():
            return
        begin, end = frames.message_id_span(encoded)
        if not message_id or encoded[begin:end] != message_id.encode():
            return  # pika reads these properties in another way than we do
        self.head = encoded[:begin]
        self.tail = encoded[end:]
        self.size = len(encoded)
        self.attributes = vars(decoded)


class Properties(pika.BasicProperties):
    """Properties that are decoded when one of them is first looked at.

    If they cannot be decoded, content_type says why, and the others are None.
    """

    # As slots they are not among the decoded attributes in vars().
    __slots__ = ('decoder', 'encoded')

    def __init__(
        self,
        encoded: bytes,
        decoder: PropertiesDecoder | None = None,
    ) -> None:
        self.encoded = encoded
        self.decoder = decoder

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_') or name in ('encoded', 'decoder'):
            raise AttributeError(name)
        encoded = self.encoded
        decoder = self.decoder or PropertiesDecoder()
        attributes = self.__dict__
        head = decoder.head
        tail = decoder.tail
        size = len(encoded)
        if size == decoder.size and encoded.startswith(head) and encoded.endswith(tail):
            attributes.update(decoder.attributes)
            message_id = encoded[len(head) : size - len(tail)]
            attributes['message_id'] = text_of(message_id)
        else:
            attributes.update(vars(decoder.decode(encoded)))
        return attributes[name]


def text_of(short_string: bytes) -> str | bytes:
    """Decode a short string as pika does: what is not UTF-8 stays as it is."""
    try:
        return short_string.decode()
    except UnicodeDecodeError:
        return short_string


def encode_with(
    properties: pika.BasicProperties,
    **changed: Any,
) -> list[bytes]:
    """Encode properties with some of them changed."""
    attributes = {**vars(properties), **changed}
    return pika.BasicProperties(**attributes).encode()
