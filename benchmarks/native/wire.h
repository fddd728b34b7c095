// What the load generator and the null server share: time, bytes, and TLS connections on epoll.
#ifndef WIRE_H
#define WIRE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INBOX = 32 * 1024 };  // twice a TLS record, so that a packet cut by one fits

// One TLS connection. inbox: bytes received and not yet consumed.
typedef struct {
    int fd;
    SSL *ssl;
    int held;
    unsigned char inbox[INBOX];
} Link;

static inline void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint32_t get32(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void put16(unsigned char *at, unsigned value) {
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static inline void put32(unsigned char *at, uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value & 0xFFFF);
}

static inline void raise_descriptor_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

// Bytes received, 0 when there are none for now, -1 when the peer has closed or broken the connection.
static inline int receive(Link *link) {
    int got = SSL_read(link->ssl, link->inbox + link->held, INBOX - link->held);
    if (got > 0) {
        link->held += got;
        return got;
    }
    int error = SSL_get_error(link->ssl, got);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static inline void consume(Link *link, int count) {
    link->held -= count;
    if (link->held > 0 && count > 0) memmove(link->inbox, link->inbox + count, (size_t)link->held);
}

// False when the peer has closed. Waits while the socket is full: both ends here answer what they read.
static inline bool send_all(Link *link, const unsigned char *bytes, int count) {
    while (count > 0) {
        int sent = SSL_write(link->ssl, bytes, count);
        if (sent > 0) {
            bytes += sent;
            count -= sent;
            continue;
        }
        int error = SSL_get_error(link->ssl, sent);
        ERR_clear_error();
        if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) return false;
        usleep(100);
    }
    return true;
}

// Size of the whole MQTT packet at ``at``, 0 while its length is not there yet. *body: where its body begins.
static inline int mqtt_packet(const unsigned char *at, int have, int *body) {
    int length = 0;
    for (int i = 1; i < have && i < 5; i++) {
        length |= (at[i] & 0x7F) << (7 * (i - 1));
        if (!(at[i] & 0x80)) {
            *body = i + 1;
            return length + i + 1;
        }
    }
    return 0;
}

// The remaining length of MQTT 3.1.1, section 2.2.3. Returns its size in bytes.
static inline int mqtt_length(unsigned char *at, int value) {
    int size = 0;
    do {
        unsigned char byte = value & 0x7F;
        value >>= 7;
        at[size++] = value ? byte | 0x80 : byte;
    } while (value);
    return size;
}

#endif
