/* SPDX-License-Identifier: Apache-2.0
 *
 * serve.h - maps over HTTP: OGC API Features and Tiles, downloads with Range, a page with a map. On loopback by
 * default; further away only with tokens. */
#ifndef AM_SERVE_H
#define AM_SERVE_H

#include "models/base/err.h"
#include "models/base/progress.h"
#include <stdint.h>

struct serve_options {
    const char *const
        *dirs; /* folders made by mapping_run; the folder's name is the collection's id prefix */
    int n_dirs;
    const char *bind;     /* 127.0.0.1; anything but loopback needs a token file or is_insecure */
    uint16_t port;        /* 8080; 0 picks a free one */
    const char *base_url; /* NULL: the Host that the client names */
    const char *token_file, *tls_cert, *tls_key; /* NULL: none (auth.h; PEM files) */
    bool is_insecure;                            /* bind elsewhere without tokens all the same */
    const char *const *origins;                  /* whose pages may read from here; [n_origins] */
    int n_origins;
    const char *data_root, *store_spec; /* NULL: maps are only shown (workflow.h) */
    uint64_t max_upload_bytes;
    bool (*has_command)(const char *name); /* whether the program knows a command: what jobs can do */
    double rate; /* requests a second an address; 0: no limit; negative: 200 off loopback, none on it */
};

struct serve; /* a running server with its own threads */
/* Starts serving and returns; dirs may be none where there is a data root. NULL with ERR_INPUT (a folder is no map), ERR_USAGE (a bind that is not safe) or
 * ERR_SERVE (cannot bind). */
struct serve *serve_start(const struct serve_options *o, struct err *e);
uint16_t serve_port(const struct serve *s);
void serve_stop(struct serve *s); /* finishes requests under way */

#endif
