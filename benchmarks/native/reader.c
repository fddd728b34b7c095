// Reads a load back and checks it: every connection's messages complete, in order, unaltered. One JSON object at the end.
//
//   reader mqtt ADDRESS PORT CLIENTS FILTER PAYLOAD RUN   subscribes with QoS 1
//   reader amqp ADDRESS PORT PREAMBLE LINKS PAYLOAD RUN   PREAMBLE: a file with its first bytes, up to the links' first credit
//
// It prints "ready" when it is subscribed or attached, and takes the number of messages to wait for as a line on standard input.
#include "client.h"

enum { STAMP = 20, CREDIT = 20000, MOST_LINKS = 32, SETTLE_EVERY = 500, WINDOW = 65535 };

static struct {
    uint32_t run, *next;  // next: the number awaited of each connection
    int connections, payload;
    long received, lost, repeated;
    uint32_t *latencies;  // microseconds
    long latencies_room;
    uint64_t first, last;
} ledger;

static void note(const unsigned char *payload) {
    if (get32(payload) != ledger.run) return;  // of an earlier run
    uint32_t connection = get32(payload + 4), number = get32(payload + 8);
    if (connection >= 65536) fail("a payload was altered");
    if ((int)connection >= ledger.connections) {
        ledger.next = realloc(ledger.next, sizeof *ledger.next * (connection + 1));
        for (; ledger.connections <= (int)connection; ledger.connections++) ledger.next[ledger.connections] = 0;
    }
    if (number < ledger.next[connection]) {
        ledger.repeated++;
        return;
    }
    ledger.lost += number - ledger.next[connection];
    ledger.next[connection] = number + 1;
    for (int i = STAMP; i < ledger.payload; i++)
        if (payload[i] != 'x') fail("a payload was altered");
    if (ledger.received == ledger.latencies_room) {
        ledger.latencies_room = ledger.latencies_room * 2 + 4096;
        ledger.latencies = realloc(ledger.latencies, sizeof *ledger.latencies * (size_t)ledger.latencies_room);
    }
    uint64_t now = now_ns(), sent = (uint64_t)get32(payload + 12) << 32 | get32(payload + 16);
    ledger.latencies[ledger.received++] = (uint32_t)((now - sent) / 1000);
    if (!ledger.first) ledger.first = now;
    ledger.last = now;
}

static int by_size(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

// ``take`` handles what a link received and answers it. Ends when as many messages came as standard input said.
static void read_until_complete(Link *link, void (*take)(Link *)) {
    static char standard_input;
    char text[32];
    long expected = -1;
    watch(link->fd, link, EPOLLIN);
    watch(STDIN_FILENO, &standard_input, EPOLLIN);
    for (take(link); expected < 0 || ledger.received < expected;) {
        struct epoll_event events[4];
        int ready = epoll_wait(poller, events, 4, expected < 0 ? -1 : 10000);
        if (ready == 0) break;  // what is missing does not come any more
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &standard_input) {
                ssize_t size = read(STDIN_FILENO, text, sizeof text - 1);
                if (size <= 0) exit(1);
                text[size] = 0;
                expected = atol(text);
                epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
                continue;
            }
            do {
                if (receive(link) < 0) fail("the server closed the reader after %ld messages", ledger.received);
                take(link);
            } while (SSL_has_pending(link->ssl));
        }
    }
    double took = (double)(ledger.last - ledger.first) / 1e9;
    long count = ledger.received;
    qsort(ledger.latencies, (size_t)count, sizeof *ledger.latencies, by_size);
    uint32_t p50 = count ? ledger.latencies[count / 2] : 0, p99 = count ? ledger.latencies[count - 1 - count / 100] : 0;
    printf(
        "{\"received\": %ld, \"expected\": %ld, \"lost\": %ld, \"repeated\": %ld, \"seconds\": %.4f, \"rate\": %.1f, "
        "\"p50_us\": %u, \"p99_us\": %u}\n",
        count, expected, ledger.lost, ledger.repeated, took, took > 0 ? (double)count / took : 0, p50, p99);
}

static void say_ready(void) {
    puts("ready");
    fflush(stdout);
}

static void take_mqtt(Link *link) {
    unsigned char out[4 * (INBOX / 64)];
    int at = 0, size = 0, body = 0;
    for (;;) {
        int packet = mqtt_packet(link->inbox + at, link->held - at, &body);
        if (!packet || packet > link->held - at) break;
        const unsigned char *bytes = link->inbox + at;
        if (bytes[0] >> 4 == 9) {
            say_ready();
        } else if (bytes[0] >> 4 == 3) {
            note(bytes + packet - ledger.payload);
            const unsigned char *id = bytes + body + 2 + (bytes[body] << 8 | bytes[body + 1]);
            memcpy(out + size, (unsigned char[]){0x40, 2, id[0], id[1]}, 4);
            size += 4;
        }
        at += packet;
    }
    consume(link, at);
    if (size && !send_all(link, out, size)) fail("the server closed the reader");
}

static void run_subscribe(char **a) {
    use_server(a[0], a[1]);
    use_clients(a[2]);
    ledger.payload = atoi(a[4]);
    ledger.run = (uint32_t)atol(a[5]);
    static Link link;
    log_in(&link, &clients[0]);
    unsigned char packet[256] = {0x82, 0, 0, 1};
    int size = 4 + put_text(packet + 4, a[3]);
    packet[size++] = 1;
    packet[1] = (unsigned char)(size - 2);
    send_all(&link, packet, size);
    read_until_complete(&link, take_mqtt);
}

// -- AMQP ---------------------------------------------------------------------------------------------------------------

static int links, attached;
static uint32_t delivered[MOST_LINKS], credited[MOST_LINKS];  // by handle
static uint32_t transfers, settled;                           // of the session; delivery ids count from 0

static unsigned char *put_uint(unsigned char *at, uint32_t value) {
    *at = 0x70;
    put32(at + 1, value);
    return at + 5;
}

static unsigned char *begin_frame(unsigned char *at, unsigned char performative, unsigned char fields) {
    memcpy(at, "\0\0\0\0\2\0\0\0\0\x53", 10);
    at[10] = performative;
    at[11] = 0xC0;
    at[13] = fields;
    return at + 14;
}

static unsigned char *end_frame(unsigned char *start, unsigned char *end) {
    put32(start, (uint32_t)(end - start));
    start[12] = (unsigned char)(end - start - 13);
    return end;
}

static unsigned char *put_flow(unsigned char *start, uint32_t handle) {
    unsigned char *at = begin_frame(start, 0x13, 7);
    at = put_uint(put_uint(put_uint(put_uint(at, transfers), WINDOW), 0), WINDOW);
    return end_frame(start, put_uint(put_uint(put_uint(at, handle), delivered[handle]), CREDIT));
}

static unsigned char *put_accepted(unsigned char *start, uint32_t first, uint32_t last) {
    unsigned char *at = begin_frame(start, 0x15, 5);
    *at++ = 0x41;  // from the receiver
    at = put_uint(put_uint(at, first), last);
    memcpy(at, "\x41\x00\x53\x24\x45", 5);  // settled; accepted
    return end_frame(start, at + 5);
}

static uint32_t uint_at(const unsigned char *at) {
    return *at == 0x70 ? get32(at + 1) : *at == 0x52 ? at[1] : 0;
}

static void take_amqp(Link *link) {
    unsigned char out[64 + MOST_LINKS * 64], *end = out;
    int at = 0;
    for (;;) {
        const unsigned char *frame = link->inbox + at;
        if (link->held - at < 8) break;
        if (!memcmp(frame, "AMQP", 4)) {
            at += 8;
            continue;
        }
        int size = (int)get32(frame);
        if (size > INBOX) fail("a frame of %d bytes", size);
        if (link->held - at < size) break;
        at += size;
        if (size < 12 || frame[5] == 1) continue;  // empty, or SASL
        switch (frame[10]) {
            case 0x12:
                if (++attached == links) say_ready();
                break;
            case 0x14:  // its first field is the handle, behind a list's head of 3 or 9 bytes
                delivered[uint_at(frame + (frame[11] == 0xC0 ? 14 : 20)) % MOST_LINKS]++;
                transfers++;
                note(frame + size - ledger.payload);
                break;
            case 0x16:
            case 0x17:
            case 0x18:
                fwrite(frame, 1, (size_t)size, stderr);
                fail("\nthe hub ended the reader: performative 0x%02x", frame[10]);
        }
    }
    consume(link, at);
    if (transfers - settled >= SETTLE_EVERY) {
        end = put_accepted(end, settled, transfers - 1);
        settled = transfers;
    }
    for (uint32_t handle = 0; handle < (uint32_t)links; handle++) {
        if (delivered[handle] - credited[handle] >= CREDIT / 4) {
            end = put_flow(end, handle);
            credited[handle] = delivered[handle];
        }
    }
    if (end != out && !send_all(link, out, (int)(end - out))) fail("the hub closed the reader");
}

static void run_amqp(char **a) {
    use_server(a[0], a[1]);
    links = atoi(a[3]);
    ledger.payload = atoi(a[4]);
    ledger.run = (uint32_t)atol(a[5]);
    if (links > MOST_LINKS) fail("too many links");
    FILE *file = fopen(a[2], "rb");
    if (!file) fail("%s: %s", a[2], strerror(errno));
    static unsigned char preamble[16384];
    int size = (int)fread(preamble, 1, sizeof preamble, file);
    fclose(file);
    static Link link;
    start(&link, true);
    if (SSL_do_handshake(link.ssl) != 1) fail("TLS handshake failed");
    send_all(&link, preamble, size);
    fcntl(link.fd, F_SETFL, O_NONBLOCK);
    read_until_complete(&link, take_amqp);
}

int main(int count, char **arguments) {
    if (count == 8 && !strcmp(arguments[1], "mqtt")) run_subscribe(arguments + 2);
    else if (count == 8 && !strcmp(arguments[1], "amqp")) run_amqp(arguments + 2);
    else fail("usage: see the head of reader.c");
    return 0;
}
