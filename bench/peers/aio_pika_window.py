"""aio-pika: a window of confirms, acknowledgements in batches."""

import asyncio
import json
import sys
import time

import aio_pika
import uvloop

role, url, queue, *numbers = sys.argv[1:]
count, window, batch, size, rate = map(int, numbers)


async def produce(channel):
    async def publish_all():  # as many at once as the window allows, each awaits its confirm
        for i in turns:
            if rate:
                await asyncio.sleep(start + i / rate - time.time())
            message = aio_pika.Message(body, message_id=str(time.time_ns()), delivery_mode=1)
            await channel.default_exchange.publish(message, queue)

    body, start, turns = b'x' * size, time.time(), iter(range(count))
    await asyncio.gather(*(publish_all() for _ in range(window)))
    print(json.dumps({'sent': count}))


async def consume(channel):
    done, received, latencies = asyncio.Event(), 0, []

    async def on_message(message):
        nonlocal received
        received += 1
        if rate:
            latencies.append((time.time_ns() - int(message.message_id)) // 1000)
        if received % batch == 0 or received == count:
            await message.ack(multiple=True)
        if received == count:
            done.set()

    await channel.set_qos(prefetch_count=window)
    await (await channel.get_queue(queue)).consume(on_message)
    await done.wait()
    print(json.dumps({'received': received, 'latency_us': latencies}))


async def main():
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True)
        await {'produce': produce, 'consume': consume}[role](channel)


uvloop.run(main())
