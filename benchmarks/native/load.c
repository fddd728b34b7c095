// Load for an MQTT server over TLS. One thread on epoll; one JSON object on standard output.
//
//   load publish ADDRESS PORT CLIENTS CONNECTIONS IN_FLIGHT PAYLOAD SECONDS RATE RUN   QoS 1; RATE 0: as fast as acknowledged
//   load connect ADDRESS PORT CLIENTS AT_ONCE SECONDS TLS_VERSION                      handshake, CONNECT, CONNACK, DISCONNECT
//   load idle    ADDRESS PORT CLIENTS CONNECTIONS                                      holds them until its standard input ends
//
// A payload begins with run, connection, number (32 bits each) and the monotonic time of sending (64 bits, nanoseconds).
// At a fixed RATE the result tells how long acknowledgements took, too.
// ``publish`` prints "ready" when all are connected, starts at a line on standard input, and holds the connections
// after its result until a second line.
#include "client.h"

enum { STAMP = 20, OUTBOX = 64 * 1024, WAITING = 64 };

static uint32_t *waits;  // microseconds from each message to its acknowledgement; NULL: they are not kept
static long waits_count, waits_room;

typedef struct {
    Link link;
    const Client *client;
    int in_flight, number, packet_id;
    uint64_t sent_at[WAITING];  // of the messages that are not acknowledged yet, the oldest at acknowledged % WAITING
    int acknowledged;
    unsigned char *publish;  // the packet, patched for each message
    int publish_size, id_at, payload_at;
} Publisher;

// -- publish ------------------------------------------------------------------------------------------------------------

static void prepare(Publisher *publisher, int payload, uint32_t run, uint32_t number) {
    const char *topic = publisher->client->topic;
    int size = 2 + (int)strlen(topic) + 2 + payload;
    unsigned char *packet = publisher->publish = malloc((size_t)size + 5);
    packet[0] = 0x32;
    int at = 1 + mqtt_length(packet + 1, size);
    at += put_text(packet + at, topic);
    publisher->id_at = at;
    publisher->payload_at = at + 2;
    publisher->publish_size = at + 2 + payload;
    memset(packet + at + 2, 'x', (size_t)payload);
    put32(packet + at + 2, run);
    put32(packet + at + 6, number);
}

static void publish(Publisher *publisher, int count) {
    static unsigned char out[OUTBOX];
    uint64_t now = now_ns();
    int size = 0;
    unsigned char *payload = publisher->publish + publisher->payload_at;
    put32(payload + 12, (uint32_t)(now >> 32));
    put32(payload + 16, (uint32_t)now);
    for (int i = 0; i < count; i++) {
        publisher->packet_id = publisher->packet_id % 65535 + 1;
        put16(publisher->publish + publisher->id_at, (unsigned)publisher->packet_id);
        publisher->sent_at[publisher->number % WAITING] = now;
        put32(payload + 8, (uint32_t)publisher->number++);
        memcpy(out + size, publisher->publish, (size_t)publisher->publish_size);
        size += publisher->publish_size;
        if (size + publisher->publish_size > OUTBOX || i == count - 1) {
            if (!send_all(&publisher->link, out, size)) fail("%s was closed", publisher->client->id);
            size = 0;
        }
    }
    publisher->in_flight += count;
}

// How many PUBACKs came.
static int take_acknowledgements(Publisher *publisher) {
    Link *link = &publisher->link;
    int count = 0;
    do {
        int got = receive(link);
        if (got < 0) fail("%s was closed", publisher->client->id);
        int at = 0;
        for (; link->held - at >= 4; at += 4, count++)
            if (link->inbox[at] != 0x40) fail("packet type %d where a PUBACK is awaited", link->inbox[at] >> 4);
        consume(link, at);
    } while (SSL_has_pending(link->ssl));
    publisher->in_flight -= count;
    uint64_t now = waits ? now_ns() : 0;
    for (int i = 0; i < count; i++, publisher->acknowledged++)
        if (waits && waits_count < waits_room)
            waits[waits_count++] = (uint32_t)((now - publisher->sent_at[publisher->acknowledged % WAITING]) / 1000);
    return count;
}

static int by_size(const void *a, const void *b) {
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    return (one > other) - (one < other);
}

static void run_publish(char **a) {
    use_server(a[0], a[1]);
    use_clients(a[2]);
    int count = atoi(a[3]), in_flight = atoi(a[4]), payload = atoi(a[5]);
    double seconds = atof(a[6]), rate = atof(a[7]);
    if (rate > 0) {
        waits_room = (long)(seconds * rate) + 1;
        waits = calloc((size_t)waits_room, sizeof *waits);
    }
    uint32_t run = (uint32_t)atol(a[8]);
    if (count > clients_count || payload < STAMP) fail("too few clients, or the payload is too short");
    Publisher *publishers = calloc((size_t)count, sizeof *publishers);
    for (int i = 0; i < count; i++) {
        publishers[i].client = &clients[i];
        log_in(&publishers[i].link, &clients[i]);
        prepare(&publishers[i], payload, run, (uint32_t)i);
        watch(publishers[i].link.fd, &publishers[i], EPOLLIN);
    }
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) exit(0);  // a line says: go

    long sent = 0, acknowledged = 0;
    uint64_t began = now_ns(), stop = began + (uint64_t)(seconds * 1e9);
    int turn = 0;
    if (rate == 0)
        for (int i = 0; i < count; i++, sent += in_flight) publish(&publishers[i], in_flight);
    for (;;) {
        uint64_t now = now_ns();
        bool over = now >= stop;
        if (rate > 0 && !over) {
            long due = (long)((double)(now - began) / 1e9 * rate);
            for (; sent < due; sent++, turn = (turn + 1) % count) publish(&publishers[turn], 1);
        }
        if (over && acknowledged == sent) break;
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, rate > 0 && !over ? 1 : 15000);
        if (ready == 0 && (rate == 0 || over)) fail("no acknowledgement in 15 s: %ld of %ld", acknowledged, sent);
        for (int i = 0; i < ready; i++) {
            Publisher *publisher = events[i].data.ptr;
            acknowledged += take_acknowledgements(publisher);
            int room = in_flight - publisher->in_flight;
            if (rate == 0 && !over && room > 0) {
                publish(publisher, room);
                sent += room;
            }
        }
    }
    double took = (double)(now_ns() - began) / 1e9;
    qsort(waits, (size_t)waits_count, sizeof *waits, by_size);
    printf("{\"messages\": %ld, \"seconds\": %.4f, \"rate\": %.1f, \"p50_us\": %u, \"p99_us\": %u}\n", acknowledged, took,
           (double)acknowledged / took, waits_count ? waits[waits_count / 2] : 0,
           waits_count ? waits[waits_count * 99 / 100] : 0);
    fflush(stdout);
    getchar();  // the connections stay until what the server used was read
}

// -- connect ------------------------------------------------------------------------------------------------------------

typedef struct {
    Link link;
    int client;
    bool sent;
} Visitor;

static void visit(Visitor *visitor, int client) {
    visitor->client = client;
    visitor->sent = false;
    start(&visitor->link, false);
    watch(visitor->link.fd, visitor, EPOLLIN | EPOLLOUT);
}

// True when the CONNACK is there.
static bool greet(Visitor *visitor) {
    Link *link = &visitor->link;
    if (!visitor->sent) {
        int done = SSL_do_handshake(link->ssl);
        if (done != 1) {
            int error = SSL_get_error(link->ssl, done);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) fail("a TLS handshake failed");
            if (error == SSL_ERROR_WANT_READ) {
                struct epoll_event event = {.events = EPOLLIN, .data.ptr = visitor};
                epoll_ctl(poller, EPOLL_CTL_MOD, link->fd, &event);
            }
            return false;
        }
        visitor->sent = send_connect(link, &clients[visitor->client]);
    }
    if (receive(link) < 0) fail("%s was closed before its CONNACK", clients[visitor->client].id);
    if (link->held < 4) return false;
    if (link->inbox[3]) fail("%s: CONNACK %d", clients[visitor->client].id, link->inbox[3]);
    return true;
}

static void run_connect(char **a) {
    use_server(a[0], a[1]);
    use_clients(a[2]);
    int at_once = atoi(a[3]);
    double seconds = atof(a[4]);
    int version = strcmp(a[5], "1.2") ? TLS1_3_VERSION : TLS1_2_VERSION;
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    if (clients_count < 2 * at_once) fail("too few clients");
    Visitor *visitors = calloc((size_t)at_once, sizeof *visitors);
    long connected = 0;
    int next = 0;
    uint64_t began = now_ns(), stop = began + (uint64_t)(seconds * 1e9), now = began;
    for (; next < at_once; next++) visit(&visitors[next], next);
    while ((now = now_ns()) < stop) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, 5000);
        if (ready == 0) fail("no CONNACK in 5 s");
        for (int i = 0; i < ready; i++) {
            Visitor *visitor = events[i].data.ptr;
            if (!greet(visitor)) continue;
            connected++;
            send_all(&visitor->link, (const unsigned char *)"\xE0\x00", 2);
            end(&visitor->link);
            visit(visitor, next++ % clients_count);
        }
    }
    double took = (double)(now - began) / 1e9;
    printf("{\"connections\": %ld, \"seconds\": %.4f, \"rate\": %.1f}\n", connected, took, (double)connected / took);
}

// -- idle ---------------------------------------------------------------------------------------------------------------

static void run_idle(char **a) {
    use_server(a[0], a[1]);
    use_clients(a[2]);
    int count = atoi(a[3]);
    if (count > clients_count) fail("too few clients");
    for (int i = 0; i < count; i++) log_in(calloc(1, sizeof(Link)), &clients[i]);
    printf("{\"connections\": %d}\n", count);
    fflush(stdout);
    while (getchar() != EOF) continue;
}

int main(int count, char **arguments) {
    if (count == 11 && !strcmp(arguments[1], "publish")) run_publish(arguments + 2);
    else if (count == 8 && !strcmp(arguments[1], "connect")) run_connect(arguments + 2);
    else if (count == 6 && !strcmp(arguments[1], "idle")) run_idle(arguments + 2);
    else fail("usage: see the head of load.c");
    return 0;
}
