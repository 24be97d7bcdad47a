"""pika as tutorials show it: BlockingConnection, each confirm awaited, each
message acknowledged singly.
"""

import json
import sys
import time

import pika

role, url, queue, *numbers = sys.argv[1:]
count, window, batch, size, rate = map(int, numbers)
latencies, received = [], 0


def produce(channel):
    body, start = b'x' * size, time.time()
    channel.confirm_delivery()
    for i in range(count):
        if rate:
            channel.connection.sleep(max(0, start + i / rate - time.time()))
        channel.basic_publish(
            '', queue, body, pika.BasicProperties(message_id=str(time.time_ns()), delivery_mode=1)
        )
    print(json.dumps({'sent': count}))


def consume(channel):
    def on_message(channel, method, properties, body):
        global received
        received += 1
        if rate:
            latencies.append((time.time_ns() - int(properties.message_id)) // 1000)
        channel.basic_ack(method.delivery_tag)
        if received == count:
            channel.stop_consuming()

    channel.basic_qos(prefetch_count=window)
    channel.basic_consume(queue, on_message)
    channel.start_consuming()
    print(json.dumps({'received': received, 'latency_us': latencies}))


connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.queue_declare(queue, durable=True)
{'produce': produce, 'consume': consume}[role](channel)
connection.close()
