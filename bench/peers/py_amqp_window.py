"""py-amqp, the client below kombu and Celery: a window of confirms, acknowledgements in batches."""

import json
import socket
import sys
import time
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import amqp

role, url, queue, *numbers = sys.argv[1:]
count, window, batch, size, rate = map(int, numbers)
confirmed = received = 0
latencies = []


def produce(connection, channel):
    def on_confirm(tag, multiple):
        global confirmed
        confirmed = tag  # a single queue confirms in order

    channel.events['basic_ack'].add(on_confirm)
    channel.confirm_select()
    body, start = b'x' * size, time.time()
    for i in range(count):
        while rate and start + i / rate > time.time():
            with suppress(socket.timeout):
                connection.drain_events(max(0.0001, start + i / rate - time.time()))
        while i - confirmed >= window:
            connection.drain_events()
        message = amqp.Message(body, message_id=str(time.time_ns()), delivery_mode=1)
        channel.basic_publish(message, routing_key=queue)
    while confirmed < count:
        connection.drain_events()
    print(json.dumps({'sent': confirmed}))


def consume(connection, channel):
    def on_message(message):
        global received
        received += 1
        if rate:
            latencies.append((time.time_ns() - int(message.properties['message_id'])) // 1000)
        if received % batch == 0 or received == count:
            channel.basic_ack(message.delivery_tag, multiple=True)

    channel.basic_qos(0, window, False)
    channel.basic_consume(queue, callback=on_message)
    while received < count:
        connection.drain_events()
    print(json.dumps({'received': received, 'latency_us': latencies}))


broker = urlsplit(url)
with amqp.Connection(
    f'{broker.hostname}:{broker.port}',
    broker.username,
    broker.password,
    virtual_host=unquote(broker.path[1:]),
) as connection:
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, auto_delete=False)
    {'produce': produce, 'consume': consume}[role](connection, channel)
