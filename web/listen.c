/* SPDX-License-Identifier: Apache-2.0
 * listen.c - addresses and the listening socket (listen.h). */
#include "web/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool parse(const char *bind, uint16_t port, struct sockaddr_storage *sa, socklen_t *size,
                  bool *is_loopback, struct err *e)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)sa;
    *sa = (struct sockaddr_storage){0};
    if (strcmp(bind, "localhost") == 0)
        bind = "127.0.0.1";
    if (inet_pton(AF_INET, bind, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *size = sizeof *v4;
        *is_loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
        return true;
    }
    if (inet_pton(AF_INET6, bind, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *size = sizeof *v6;
        *is_loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
        return true;
    }
    return err_set(e, ERR_USAGE, "'%s' is no address to bind to; use 127.0.0.1 or ::1", bind);
}

bool listen_is_loopback(const char *bind, bool *is_loopback, struct err *e)
{
    struct sockaddr_storage sa;
    socklen_t size;
    return parse(bind, 0, &sa, &size, is_loopback, e);
}

bool listen_open(struct listen_socket *l, const char *bind_to, uint16_t port, struct err *e)
{
    struct sockaddr_storage sa;
    socklen_t size = 0;
    const int on = 1;
    char text[INET6_ADDRSTRLEN];
    *l = (struct listen_socket){.fd = -1};
    if (!parse(bind_to, port, &sa, &size, &l->is_loopback, e))
        return false;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&sa, size) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &size) != 0) {
        int failed = errno;
        if (failed == EADDRINUSE)
            err_set(e, ERR_SERVE, "port %u of %s is in use; choose another with --port", port, bind_to);
        else
            err_errno(e, ERR_SERVE, failed, "port %u of %s cannot be bound", port, bind_to);
        if (fd >= 0)
            close(fd);
        return false;
    }
    l->fd = fd;
    if (sa.ss_family == AF_INET6) {
        l->port = ntohs(((struct sockaddr_in6 *)&sa)->sin6_port);
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&sa)->sin6_addr, text, sizeof text);
        snprintf(l->bound, sizeof l->bound, "[%s]:%u", text, l->port);
    } else {
        l->port = ntohs(((struct sockaddr_in *)&sa)->sin_port);
        inet_ntop(AF_INET, &((struct sockaddr_in *)&sa)->sin_addr, text, sizeof text);
        snprintf(l->bound, sizeof l->bound, "%s:%u", text, l->port);
    }
    return true;
}
