/* rabbitmq-c, tuned: the library connects and declares; then messages go by the batch over its socket, as near to what
   C can do as this work allows. Batches of publishes in one send(), frames parsed from 256 kB of one recv(),
   acknowledgements in batches. The words it takes: see bench/perf_peers.py. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "work.h"

enum { METHOD = 1, HEADER = 2, BODY = 3, END = 0xce, BUFFER = 1 << 18 };
enum { PREFIX = 7, OVERHEAD = 8, ACK = 21 }; /* bytes: before a payload, around it, of a basic.ack frame */
enum { PUBLISH = 0x3c0028, CONSUME = 0x3c0014, DELIVER = 0x3c003c, BASIC_ACK = 0x3c0050 };

static int fd;
static unsigned char buffer[2 * BUFFER]; /* what was received and not parsed yet */
static size_t have, at;

static void send_all(const unsigned char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, 0);
        must(sent > 0, "sending");
        data += sent, size -= sent;
    }
}

static uint32_t u32(size_t where) { uint32_t value; memcpy(&value, buffer + where, 4); return ntohl(value); }
static uint64_t u64(size_t where) { uint64_t value; memcpy(&value, buffer + where, 8); return be64toh(value); }
static unsigned char *put16(unsigned char *to, uint16_t value) { value = htons(value); return (unsigned char *)memcpy(to, &value, 2) + 2; }
static unsigned char *put32(unsigned char *to, uint32_t value) { value = htonl(value); return (unsigned char *)memcpy(to, &value, 4) + 4; }
static unsigned char *put64(unsigned char *to, uint64_t value) { value = htobe64(value); return (unsigned char *)memcpy(to, &value, 8) + 8; }

static unsigned char *put_prefix(unsigned char *to, int kind, uint32_t size) {
    *to++ = kind;
    return put32(put16(to, 1), size);
}

/* Read more behind what is there. */
static void receive(void) {
    memmove(buffer, buffer + at, have - at);
    have -= at, at = 0;
    ssize_t got = recv(fd, buffer + have, sizeof buffer - have, 0);
    must(got > 0, "receiving");
    have += got;
}

/* Move to the next whole frame; return its kind, or 0 if it is not all there. */
static int frame_here(void) {
    if (have - at < PREFIX || have - at < OVERHEAD + u32(at + 3)) return 0;
    must(buffer[at + PREFIX + u32(at + 3)] == END, "finding the end of a frame");
    return buffer[at];
}

static void next_frame(void) { at += OVERHEAD + u32(at + 3); }

static void produce(amqp_bytes_t queue, long count, long window, long size, long rate) {
    /* One message; only the digits of the message_id change. */
    enum { DIGITS = 19 };
    unsigned char *message = malloc(256 + queue.len + size), *to = message;
    to = put_prefix(to, METHOD, 4 + 2 + 1 + 1 + queue.len + 1);
    to = put16(put32(to, PUBLISH), 0);
    *to++ = 0, *to++ = queue.len;
    to = (unsigned char *)memcpy(to, queue.bytes, queue.len) + queue.len;
    *to++ = 0, *to++ = END;
    to = put_prefix(to, HEADER, 12 + 2 + 1 + 1 + DIGITS);
    to = put64(put16(put16(to, 60), 0), size);
    to = put16(to, 1 << 12 | 1 << 7); /* delivery_mode, message_id */
    *to++ = is_persistent ? 2 : 1, *to++ = DIGITS;
    size_t digits = to - message;
    to += DIGITS;
    *to++ = END;
    to = put_prefix(to, BODY, size);
    memset(to, 'x', size);
    to += size;
    *to++ = END;
    size_t bytes = to - message;

    unsigned char *batch = malloc(bytes * window);
    long sent = 0;
    must(amqp_confirm_select(broker, 1) != NULL, "confirm.select");
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    for (long long begin = clock_ns(); confirmed < count;) {
        long room = window - (sent - confirmed), due = count - sent;
        if (rate && sent < count) {
            long long now = clock_ns();
            due = 1 + (now - begin) * rate / 1000000000LL - sent;
            if (due > count - sent) due = count - sent;
        }
        if (room > due) room = due;
        if (room > 0 && (rate || room >= window / 2 || room == count - sent)) {
            char id[DIGITS + 1];
            sprintf(id, "%0*lld", DIGITS, clock_ns());
            memcpy(message + digits, id, DIGITS);
            for (long i = 0; i < room; i++) memcpy(batch + i * bytes, message, bytes);
            send_all(batch, bytes * room);
            sent += room;
        }
        long long wait = 1000000000LL;
        if (rate && sent < count) wait = begin + sent * 1000000000LL / rate - clock_ns();
        struct pollfd readable = {fd, POLLIN, 0};
        if (wait < 0) wait = 0;
        if (ppoll(&readable, 1, &(struct timespec){wait / 1000000000, wait % 1000000000}, NULL) < 1) continue;
        for (receive(); frame_here(); next_frame())
            if (u32(at + PREFIX) == BASIC_ACK) count_confirms(u64(at + PREFIX + 4), buffer[at + PREFIX + 12] & 1);
    }
    printf("{\"sent\": %ld}\n", sent);
}

static void acknowledge(uint64_t tag) {
    unsigned char frame[ACK], *to = put_prefix(frame, METHOD, ACK - OVERHEAD);
    to = put64(put32(to, BASIC_ACK), tag);
    *to++ = 1, *to++ = END;
    send_all(frame, ACK);
}

/* Send basic.consume: the library must not read the first deliveries. */
static void begin_to_consume(amqp_bytes_t queue) {
    unsigned char frame[300], *to = put_prefix(frame, METHOD, 4 + 2 + 1 + queue.len + 1 + 1 + 4);
    to = put16(put32(to, CONSUME), 0);
    *to++ = queue.len;
    to = (unsigned char *)memcpy(to, queue.bytes, queue.len) + queue.len;
    *to++ = 0, *to++ = 0;
    to = put32(to, 0);
    *to++ = END;
    send_all(frame, to - frame);
}

static void consume(amqp_bytes_t queue, long count, long prefetch, long batch, long rate) {
    must(amqp_basic_qos(broker, 1, 0, prefetch, 0) != NULL, "basic.qos");
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    begin_to_consume(queue);
    long received = 0;
    uint64_t tag = 0, left = 0;
    printf("{\"latency_us\": [");
    while (received < count) {
        receive();
        for (int kind; received < count && (kind = frame_here()); next_frame()) {
            if (kind == METHOD && u32(at + PREFIX) == DELIVER) {
                tag = u64(at + PREFIX + 5 + buffer[at + PREFIX + 4]);
            } else if (kind == HEADER) {
                left = u64(at + PREFIX + 4);
                if (rate) {
                    char id[20] = "";
                    memcpy(id, buffer + at + PREFIX + 16, 19);
                    printf("%s%lld", received ? ", " : "", (clock_ns() - atoll(id)) / 1000);
                }
            } else if (kind == BODY) {
                left -= u32(at + 3);
                if (left) continue;
                received++;
                if (received % batch == 0 || received == count) acknowledge(tag);
            }
        }
    }
    printf("], \"received\": %ld}\n", received);
}

int main(int argc, char **argv) {
    if (argc == 2) return puts(amqp_version()) < 0;
    struct work work = begin(argc, argv);
    fd = amqp_get_sockfd(broker);
    if (work.is_producer) produce(work.queue, work.count, work.window, work.size, work.rate);
    else consume(work.queue, work.count, work.window, work.batch, work.rate);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    amqp_connection_close(broker, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(broker);
    return 0;
}
