/* SPDX-License-Identifier: Apache-2.0
 *
 * serve.h - map folders over HTTP on loopback: OGC API Features, downloads with Range, XYZ tiles, one page
 * with a map. */
#ifndef AM_SERVE_H
#define AM_SERVE_H

#include "models/base/err.h"
#include "models/base/progress.h"
#include <stdint.h>

struct serve_options {
    const char *const
        *dirs; /* folders made by mapping_run; the folder's name is the collection's id prefix */
    int n_dirs;
    const char *bind;     /* 127.0.0.1; anything but loopback is refused (no accounts yet) */
    uint16_t port;        /* 8080; 0 picks a free one */
    const char *base_url; /* NULL: http://BIND:PORT */
};

struct serve; /* a running server with its own threads */
/* Starts serving and returns; NULL with ERR_INPUT (a folder is no map) or ERR_SERVE (cannot bind). */
struct serve *serve_start(const struct serve_options *o, struct err *e);
uint16_t serve_port(const struct serve *s);
void serve_stop(struct serve *s); /* finishes requests under way */

#endif
