/* SPDX-License-Identifier: Apache-2.0
 *
 * listen.h - the socket the server listens on, and whether other machines can reach it. */
#ifndef AM_LISTEN_H
#define AM_LISTEN_H

#include "models/base/err.h"
#include <stdint.h>

struct listen_socket {
    int fd;         /* the caller's to close; -1: none */
    uint16_t port;  /* the one bound, also where 0 was asked for */
    char bound[80]; /* "127.0.0.1:8080", "[::1]:8080" */
    bool is_loopback;
};

/* True when the address text (IPv4, IPv6 or "localhost") is one of this machine's loopback addresses. ERR_USAGE
 * when it is no address. */
bool listen_is_loopback(const char *bind, bool *is_loopback, struct err *e);

/* Binds and listens; ERR_SERVE with the reason when the port is taken. */
bool listen_open(struct listen_socket *l, const char *bind, uint16_t port, struct err *e);

#endif
