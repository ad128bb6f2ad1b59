/* SPDX-License-Identifier: Apache-2.0
 *
 * guard.h - what is asked of a request before anybody looks at what it wants: its Host, its Origin, its rate.
 *
 * Host. A page of another site whose name was pointed at this machine (DNS rebinding) sends its own name. An
 * address literal cannot be rebound, so these pass, and localhost, and the name in --base-url.
 *
 * Origin. A browser names the page that sends a write; only our own pages and those of --cors may. A client that
 * is no browser sends none. Sec-Fetch-Site says the same where Origin is missing.
 *
 * Rate. One bucket an address, refilled at `rate` requests a second, with `burst` of them to spend at once. The
 * table has a fixed size: an address that finds its slot taken by an older one inherits nothing and replaces it,
 * so an attacker with many addresses cannot grow it. (Token bucket: RFC 2697 in spirit.)
 *
 * Threads: the bucket table locks itself; the rest is immutable. */
#ifndef AM_GUARD_H
#define AM_GUARD_H

#include "models/base/err.h"
#include "web/http.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>

enum { GUARD_SLOTS = 1024, GUARD_MAX_ORIGINS = 16 };

struct guard {
    char base_url[256]; /* "": links follow the Host header */
    char bound[80];
    const char *scheme; /* "http" or "https" */
    char origin[GUARD_MAX_ORIGINS][160];
    int n_origins;
    double rate, burst;   /* rate 0: no limit */
    pthread_mutex_t lock; /* guards slot */
    struct guard_slot {
        uint8_t address[16];
        double tokens;
        int64_t at_ms;
    } slot[GUARD_SLOTS];
};

/* g is zeroed but for its lock, which the caller has made. base_url may be NULL. ERR_USAGE for a malformed URL or origin. */
bool guard_init(struct guard *g, const char *base_url, const char *const *origins, int n_origins, double rate,
                struct err *e);
void guard_close(struct guard *g);

/* Checks Host and sets q->base. False: the reply is a 421. */
bool guard_host(const struct guard *g, struct http_request *q, struct http_reply *a);
/* Checks Origin of a write. False: the reply is a 403. */
bool guard_origin(const struct guard *g, const struct http_request *q, struct http_reply *a);
/* The Origin that may read the answer from another site's page, or NULL. */
const char *guard_cors(const struct guard *g, const struct http_request *q);

/* Takes `cost` requests from the address's bucket. 0: it may go on; else the seconds to wait. */
int guard_rate(struct guard *g, const struct sockaddr *address, double cost, int64_t now_ms);

#endif
