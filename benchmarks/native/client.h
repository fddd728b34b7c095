// The client's side of a connection: the clients of a file, sockets to one server, MQTT login.
#ifndef CLIENT_H
#define CLIENT_H

#include "wire.h"

// From a file of lines "client id, user name, password, topic", split by tabs.
typedef struct {
    char *id, *user, *password, *topic;
} Client;

static SSL_CTX *context;
static struct sockaddr_in server;
static Client *clients;
static int clients_count, poller;

static inline void use_server(const char *address, const char *port) {
    raise_descriptor_limit();
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &server.sin_addr) != 1) fail("no IPv4 address: %s", address);
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    poller = epoll_create1(0);
}

static inline void use_clients(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail("%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) {
        if (clients_count % 1024 == 0) clients = realloc(clients, sizeof *clients * (size_t)(clients_count + 1024));
        char *rest = strdup(line);
        Client *client = &clients[clients_count++];
        client->id = strsep(&rest, "\t");
        client->user = strsep(&rest, "\t");
        client->password = strsep(&rest, "\t");
        client->topic = strsep(&rest, "\n");
    }
    free(line);
    fclose(file);
}

// A socket on its way to the server. Sources are spread over 127.0.0.0/8: one has too few ports for many short connections.
// False when nobody listens.
static inline bool try_start(Link *link, bool blocking) {
    static uint32_t source;
    int one = 1;
    link->held = 0;
    link->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!blocking) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7F6F0001 + source++ % 200)};
        setsockopt(link->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(link->fd, (void *)&from, sizeof from)) fail("bind: %s", strerror(errno));
        fcntl(link->fd, F_SETFL, O_NONBLOCK);
    }
    if (connect(link->fd, (void *)&server, sizeof server) && errno != EINPROGRESS) {
        close(link->fd);
        return false;
    }
    link->ssl = SSL_new(context);
    SSL_set_fd(link->ssl, link->fd);
    SSL_set_connect_state(link->ssl);
    return true;
}

static inline void start(Link *link, bool blocking) {
    if (!try_start(link, blocking)) fail("connect: %s", strerror(errno));
}

static inline void end(Link *link) {
    SSL_free(link->ssl);
    close(link->fd);
}

static inline void watch(int fd, void *what, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll: %s", strerror(errno));
}

static inline int put_text(unsigned char *at, const char *text) {
    int size = (int)strlen(text);
    put16(at, (unsigned)size);
    memcpy(at + 2, text, (size_t)size);
    return size + 2;
}

static inline bool send_connect(Link *link, const Client *client) {
    unsigned char body[4096], packet[4096 + 5];
    int size = put_text(body, "MQTT");
    memcpy(body + size, "\x04\xC2\x00\xF0", 4);  // 3.1.1; user name, password, clean session; keep-alive 240 s
    size += 4;
    size += put_text(body + size, client->id);
    size += put_text(body + size, client->user);
    size += put_text(body + size, client->password);
    packet[0] = 0x10;
    int head = 1 + mqtt_length(packet + 1, size);
    memcpy(packet + head, body, (size_t)size);
    return send_all(link, packet, head + size);
}

// Connects and waits for the CONNACK.
static inline void log_in(Link *link, const Client *client) {
    start(link, true);
    if (SSL_do_handshake(link->ssl) != 1) fail("TLS handshake of %s failed", client->id);
    send_connect(link, client);
    while (link->held < 4)
        if (receive(link) < 0) fail("%s was refused", client->id);
    if (link->inbox[0] != 0x20 || link->inbox[3]) fail("%s: CONNACK %d", client->id, link->inbox[3]);
    consume(link, 4);
    fcntl(link->fd, F_SETFL, O_NONBLOCK);
}

#endif
