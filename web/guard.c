/* SPDX-License-Identifier: Apache-2.0
 * guard.c - Host, Origin and rate (guard.h). */
#include "web/guard.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- what links start with
 * ------------------------------------------------------------------------------------------- */

static bool is_url(const char *url, size_t n, bool path_allowed)
{
    size_t scheme = strncmp(url, "http://", 7) == 0 ? 7 : strncmp(url, "https://", 8) == 0 ? 8 : 0;
    if (!scheme || n <= scheme || strcspn(url, " \"<>\\?#@\r\n\t;,") < n)
        return false;
    return path_allowed || !memchr(url + scheme, '/', n - scheme);
}

bool guard_init(struct guard *g, const char *base_url, const char *const *origins, int n_origins, double rate,
                struct err *e)
{
    g->scheme = "http";
    g->rate = rate;
    g->burst = fmax(4 * rate, 20);
    if (base_url) {
        size_t n = strlen(base_url);
        while (n && base_url[n - 1] == '/')
            n--;
        if (n >= sizeof g->base_url || !is_url(base_url, n, true))
            return err_set(e, ERR_USAGE, "'%.100s' is no base URL; give one such as http://localhost:8080",
                           base_url);
        snprintf(g->base_url, sizeof g->base_url, "%.*s", (int)n, base_url);
    }
    if (n_origins > GUARD_MAX_ORIGINS)
        return err_set(e, ERR_USAGE, "more than %d origins are given with --cors", GUARD_MAX_ORIGINS);
    for (int i = 0; i < n_origins; i++) {
        if (strlen(origins[i]) >= sizeof g->origin[i] || !is_url(origins[i], strlen(origins[i]), false))
            return err_set(e, ERR_USAGE,
                           "'%.100s' is no origin; give scheme and host, such as https://maps.example.org",
                           origins[i]);
        snprintf(g->origin[g->n_origins++], sizeof g->origin[0], "%s", origins[i]);
    }
    return true;
}

void guard_close(struct guard *g)
{
    pthread_mutex_destroy(&g->lock);
}

/* ---- Host
 * ------------------------------------------------------------------------------------------------------------ */

/* The host's length in "name:port" or "[::1]:port"; 0 when it is malformed. */
static size_t host_size(const char *host)
{
    size_t n = *host == '[' ? strcspn(host, "]") + (strchr(host, ']') != NULL) : strcspn(host, ":");
    const char *port = host + n;
    if (*port && (*port != ':' || strlen(port) < 2 || strlen(port) > 6 ||
                  strspn(port + 1, "0123456789") != strlen(port + 1)))
        return 0;
    return n;
}

static bool is_address(const char *host, size_t n)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr any;
    if (n == 9 && strncasecmp(host, "localhost", 9) == 0)
        return true;
    bool is_v6 = *host == '[';
    if (is_v6) {
        host++;
        n -= 2;
    }
    if (n >= sizeof text)
        return false;
    memcpy(text, host, n);
    text[n] = '\0';
    return inet_pton(is_v6 ? AF_INET6 : AF_INET, text, &any) == 1;
}

bool guard_host(const struct guard *g, struct http_request *q, struct http_reply *a)
{
    const char *host = http_header(q, "Host");
    const char *own = *g->base_url ? strstr(g->base_url, "://") : NULL;
    size_t n = host ? host_size(host) : 0;
    bool ok = !host || n > 0;
    if (ok && host) {
        bool is_own =
            own && strncasecmp(own + 3, host, n) == 0 && strchr(":/", own[3 + n]); /* or at its end */
        ok = is_own || is_address(host, n);
    }
    if (*g->base_url)
        snprintf(q->base, sizeof q->base, "%s", g->base_url);
    else
        snprintf(q->base, sizeof q->base, "%s://%.200s", g->scheme, host && ok ? host : g->bound);
    if (!ok)
        http_problem(
            q, a, 421, NULL,
            "this server answers to addresses, localhost and the name in --base-url, not to this Host");
    return ok;
}

/* ---- Origin
 * ---------------------------------------------------------------------------------------------------------- */

const char *guard_cors(const struct guard *g, const struct http_request *q)
{
    const char *origin = http_header(q, "Origin");
    for (int i = 0; origin && i < g->n_origins; i++)
        if (strcmp(g->origin[i], origin) == 0)
            return g->origin[i];
    return NULL;
}

bool guard_origin(const struct guard *g, const struct http_request *q, struct http_reply *a)
{
    const char *origin = http_header(q, "Origin"), *site = http_header(q, "Sec-Fetch-Site");
    const char *host = strstr(q->base, "://"), *asked = http_header(q, "Host");
    bool ok = true;
    if (origin) {
        const char *from = strstr(origin, "://");
        size_t n = host ? strcspn(host + 3, "/") : 0;
        bool is_ours = from && host && strlen(from + 3) == n && strncasecmp(from + 3, host + 3, n) == 0;
        /* Behind --base-url a page may still have been loaded by address. */
        is_ours |= from && asked && strcasecmp(from + 3, asked) == 0;
        ok = is_ours || guard_cors(g, q);
    } else if (site) {
        ok = strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0;
    }
    if (!ok)
        http_problem(q, a, 403, NULL,
                     "a page of another site may not change anything here; --cors lists those that may");
    return ok;
}

/* ---- rate
 * ------------------------------------------------------------------------------------------------------------ */

/* IPv6 hosts own a whole /64, so that is what counts as one address. */
static void key_of(const struct sockaddr *sa, uint8_t key[16])
{
    memset(key, 0, 16);
    if (sa->sa_family == AF_INET) {
        key[0] = 4;
        memcpy(key + 1, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
    } else if (sa->sa_family == AF_INET6) {
        key[0] = 6;
        memcpy(key + 1, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 8);
    }
}

int guard_rate(struct guard *g, const struct sockaddr *address, double cost, int64_t now_ms)
{
    uint8_t key[16];
    uint32_t h = 2166136261u;
    if (g->rate <= 0 || !address)
        return 0;
    key_of(address, key);
    for (int i = 0; i < 16; i++)
        h = (h ^ key[i]) * 16777619u;
    pthread_mutex_lock(&g->lock);
    struct guard_slot *s = &g->slot[h % GUARD_SLOTS];
    if (memcmp(s->address, key, sizeof key) != 0) {
        memcpy(s->address, key, sizeof key);
        s->tokens = g->burst;
        s->at_ms = now_ms;
    }
    s->tokens = fmin(g->burst, s->tokens + (double)(now_ms - s->at_ms) * 1e-3 * g->rate);
    s->at_ms = now_ms;
    bool ok = s->tokens >= cost;
    if (ok)
        s->tokens -= cost;
    double wait = ok ? 0 : (cost - s->tokens) / g->rate;
    pthread_mutex_unlock(&g->lock);
    return ok ? 0 : 1 + (int)fmin(wait, 3600);
}
