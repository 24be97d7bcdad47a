// node amqplib: a window of confirms, acknowledgements in batches. The words it takes: see bench/perf_peers.py.
const amqp = require('amqplib')
const { setTimeout: sleep } = require('node:timers/promises')

const [role, url, queue, ...numbers] = process.argv.slice(2)
const [count, window, batch, size, rate] = numbers.map(Number)
const clock = () => process.hrtime.bigint() // ns, the same in both processes

async function produce(channel) {
  const body = Buffer.alloc(size, 'x')
  const start = performance.now()
  let sent = 0, confirmed = 0, left, wake
  const onConfirm = error => {
    if (error) throw error
    confirmed++
    wake?.()
  }
  for (; sent < count; sent++) {
    while (rate && (left = start + sent * 1000 / rate - performance.now()) > 0) await sleep(left)
    while (sent - confirmed >= window) await new Promise(resolve => { wake = resolve })
    channel.sendToQueue(queue, body, { messageId: String(clock()), deliveryMode: 1 }, onConfirm)
  }
  await channel.waitForConfirms()
  console.log(JSON.stringify({ sent: confirmed }))
}

async function consume(channel) {
  const latencies = []
  let received = 0
  await channel.prefetch(window)
  await new Promise(resolve => channel.consume(queue, message => {
    received++
    if (rate) latencies.push(Number(clock() - BigInt(message.properties.messageId)) / 1000)
    if (received % batch === 0 || received === count) channel.ack(message, true)
    if (received === count) resolve()
  }))
  console.log(JSON.stringify({ received, latency_us: latencies }))
}

async function main() {
  const connection = await amqp.connect(url, { noDelay: true })
  const channel = await (role === 'produce' ? connection.createConfirmChannel() : connection.createChannel())
  await channel.assertQueue(queue, { durable: true })
  await (role === 'produce' ? produce : consume)(channel)
  await channel.close()
  await connection.close()
}

main()
