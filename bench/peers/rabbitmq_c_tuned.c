/* rabbitmq-c, tuned: the library connects and declares; then messages go by the batch over its socket, as near to what
   C can do as this work allows. Batches of publishes in one send(), frames parsed from 256 kB of one recv(),
   acknowledgements in batches. The words it takes: see bench/perf_peers.py. */
#define _GNU_SOURCE
#include <amqp.h>
#include <amqp_tcp_socket.h>
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

enum { METHOD = 1, HEADER = 2, BODY = 3, END = 0xce, BUFFER = 1 << 18 };
enum { PREFIX = 7, OVERHEAD = 8, ACK = 21 }; /* bytes: before a payload, around it, of a basic.ack frame */
enum { PUBLISH = 0x3c0028, CONSUME = 0x3c0014, DELIVER = 0x3c003c, BASIC_ACK = 0x3c0050 };

static amqp_connection_state_t broker;
static int fd;
static int is_persistent, is_quorum; /* KIND in the environment: see bench/perf_peers.py */
static unsigned char buffer[2 * BUFFER]; /* what was received and not parsed yet */
static size_t have, at;

static void must(int good, const char *what) {
    if (!good) { fprintf(stderr, "rabbitmq_c_tuned: %s failed\n", what); exit(1); }
}

static long long clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

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
    long sent = 0, confirmed = 0;
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
            if (u32(at + PREFIX) == BASIC_ACK) confirmed = u64(at + PREFIX + 4);
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
    struct amqp_connection_info url;
    if (argc == 2) return puts(amqp_version()) < 0;
    must(argc == 9 && !amqp_parse_url(argv[2], &url), "reading the command line");
    amqp_bytes_t queue = amqp_cstring_bytes(argv[3]);
    long count = atol(argv[4]), window = atol(argv[5]), batch = atol(argv[6]), size = atol(argv[7]), rate = atol(argv[8]);
    broker = amqp_new_connection();
    must(!amqp_socket_open(amqp_tcp_socket_new(broker), url.host, url.port), "connecting");
    must(amqp_login(broker, url.vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, url.user, url.password)
             .reply_type == AMQP_RESPONSE_NORMAL, "logging in");
    must(amqp_channel_open(broker, 1) != NULL, "channel.open");
    const char *kind = getenv("KIND");
    is_quorum = kind && strcmp(kind, "quorum") == 0;
    is_persistent = is_quorum || (kind && strcmp(kind, "persistent") == 0);
    amqp_table_entry_t type = {.key = amqp_cstring_bytes("x-queue-type"), .value = {.kind = AMQP_FIELD_KIND_UTF8}};
    type.value.value.bytes = amqp_cstring_bytes(is_quorum ? "quorum" : "classic");
    amqp_table_t arguments = {1, &type};
    must(amqp_queue_declare(broker, 1, queue, 0, 1, 0, 0, arguments) != NULL, "queue.declare");
    fd = amqp_get_sockfd(broker);
    if (strcmp(argv[1], "produce") == 0) produce(queue, count, window, size, rate);
    else consume(queue, count, window, batch, rate);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    amqp_connection_close(broker, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(broker);
    return 0;
}
