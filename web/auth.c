/* SPDX-License-Identifier: Apache-2.0
 * auth.c - tokens, roles and cookies (auth.h). */
#include "web/auth.h"

#include "models/base/file.h"
#include "models/base/mem.h"
#include <errno.h>
#include <inttypes.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { FILE_MAX_BYTES = 1 << 20, TOKEN_MAX = 512 };

struct auth {
    struct token {
        enum auth_role role;
        char name[AUTH_NAME_SIZE];
        uint8_t digest[SHA256_DIGEST_SIZE];
    } * token; /* [n] */
    size_t n;
};

static const char *const role_names[] = {"none", "reader", "editor", "admin"};

const char *auth_role_name(enum auth_role r)
{
    return role_names[r];
}

static void digest_of(const char *token, uint8_t digest[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx c;
    sha256_init(&c);
    sha256_update(&c, strlen(token), (const uint8_t *)token);
    sha256_digest(&c, SHA256_DIGEST_SIZE, digest);
}

/* Names go into the cookie and beside labels: letters, digits, '-' and '_' only. */
static bool is_name(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return n > 0 && n < AUTH_NAME_SIZE && s[n] == '\0';
}

static bool add_line(struct auth *a, const char *path, int number, char *line, struct err *e)
{
    char *save = NULL;
    const char *part[4] = {NULL};
    int n = 0;
    line[strcspn(line, "#\r")] = '\0';
    for (char *s = strtok_r(line, " \t", &save); s && n < 4; s = strtok_r(NULL, " \t", &save))
        part[n++] = s;
    if (n == 0)
        return true;
    enum auth_role role = AUTH_READER;
    while (n == 3 && role <= AUTH_ADMIN && strcmp(part[0], role_names[role]) != 0)
        role++;
    if (n != 3 || role > AUTH_ADMIN || !is_name(part[1]))
        return err_set(
            e, ERR_INPUT,
            "%s: line %d is not 'ROLE NAME TOKEN' with a role of reader, editor or admin and a name of "
            "letters, digits, '-' and '_'",
            path, number);
    if (strlen(part[2]) < AUTH_TOKEN_MIN)
        return err_set(
            e, ERR_INPUT,
            "%s: the token in line %d is shorter than %d characters; make one with 'openssl rand -hex 24'",
            path, number, AUTH_TOKEN_MIN);
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->token[i].name, part[1]) == 0)
            return err_set(e, ERR_INPUT, "%s: line %d names '%s' a second time", path, number, part[1]);
    if (!mem_grow(&a->token, a->n + 1, sizeof *a->token, "the tokens", e))
        return false;
    struct token *t = &a->token[a->n++];
    t->role = role;
    snprintf(t->name, sizeof t->name, "%s", part[1]);
    digest_of(part[2], t->digest);
    return true;
}

struct auth *auth_open(const char *path, struct err *e)
{
    struct stat st;
    size_t size;
    char *text = NULL, *save = NULL;
    struct auth *a = NULL;
    bool ok = false;
    if (stat(path, &st) != 0) {
        err_errno(e, ERR_INPUT, errno, "%s cannot be read", path);
        return NULL;
    }
    if (st.st_mode & 077) {
        err_set(e, ERR_INPUT, "%s can be read by others; run chmod 600 on it", path);
        return NULL;
    }
    text = file_read(path, FILE_MAX_BYTES, &size, e);
    a = text ? mem_array(1, sizeof *a, "the tokens", e) : NULL;
    if (!a)
        goto out;
    ok = true;
    int number = 0;
    for (char *rest = text; ok && (save = strsep(&rest, "\n"));)
        ok = add_line(a, path, ++number, save, e);
    if (ok && a->n == 0)
        ok = err_set(e, ERR_INPUT, "%s holds no token", path);
out:
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
    if (!ok) {
        auth_free(a);
        a = NULL;
    }
    return a;
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    free(a->token);
    free(a);
}

/* Compares with every token; the index of the fitting one, or n. */
static size_t find_token(const struct auth *a, const char *token)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    size_t found = a->n;
    if (strlen(token) > TOKEN_MAX)
        return found;
    digest_of(token, digest);
    for (size_t i = 0; i < a->n; i++)
        if (memeql_sec(digest, a->token[i].digest, sizeof digest))
            found = i;
    return found;
}

static void become(const struct auth *a, size_t i, struct auth_user *u)
{
    *u = (struct auth_user){.role = AUTH_NOBODY};
    if (i == a->n)
        return;
    u->role = a->token[i].role;
    snprintf(u->name, sizeof u->name, "%s", a->token[i].name);
}

void auth_by_token(const struct auth *a, const char *token, struct auth_user *u)
{
    *u = (struct auth_user){.role = a ? AUTH_NOBODY : AUTH_ADMIN};
    if (a && token)
        become(a, find_token(a, token), u);
}

/* NAME.EXPIRY.HEX of a token's owner. */
static void sign(const struct token *t, int64_t expiry, char out[AUTH_COOKIE_SIZE])
{
    struct hmac_sha256_ctx c;
    uint8_t mac[SHA256_DIGEST_SIZE];
    int n = snprintf(out, AUTH_COOKIE_SIZE, "%s.%" PRId64, t->name, expiry);
    hmac_sha256_set_key(&c, sizeof t->digest, t->digest);
    hmac_sha256_update(&c, (size_t)n, (const uint8_t *)out);
    hmac_sha256_digest(&c, sizeof mac, mac);
    out[n++] = '.';
    for (size_t i = 0; i < sizeof mac; i++, n += 2)
        snprintf(out + n, AUTH_COOKIE_SIZE - (size_t)n, "%02x", mac[i]);
}

bool auth_make_cookie(const struct auth *a, const char *token, int64_t now, char out[AUTH_COOKIE_SIZE])
{
    size_t i = a ? find_token(a, token) : 0;
    if (!a || i == a->n)
        return false;
    sign(&a->token[i], now + AUTH_SESSION_SECONDS, out);
    return true;
}

static void by_cookie(const struct auth *a, const char *value, size_t size, int64_t now, struct auth_user *u)
{
    char given[AUTH_COOKIE_SIZE], wanted[AUTH_COOKIE_SIZE];
    if (size >= sizeof given)
        return;
    memcpy(given, value, size);
    given[size] = '\0';
    const char *dot = strchr(given, '.');
    char *end = NULL;
    int64_t expiry = dot ? strtoll(dot + 1, &end, 10) : 0;
    if (!dot || !end || *end != '.' || expiry <= now || expiry > now + AUTH_SESSION_SECONDS)
        return;
    for (size_t i = 0; i < a->n; i++) {
        size_t n = strlen(a->token[i].name);
        if (n != (size_t)(dot - given) || memcmp(a->token[i].name, given, n) != 0)
            continue;
        sign(&a->token[i], expiry, wanted);
        if (strlen(wanted) == size && memeql_sec(wanted, given, size))
            become(a, i, u);
    }
}

void auth_by_headers(const struct auth *a, const char *authorization, const char *cookie, int64_t now,
                     struct auth_user *u)
{
    *u = (struct auth_user){.role = a ? AUTH_NOBODY : AUTH_ADMIN};
    if (!a)
        return;
    if (authorization) {
        if (strncasecmp(authorization, "Bearer ", 7) == 0)
            become(a, find_token(a, authorization + 7 + strspn(authorization + 7, " ")), u);
        return;
    }
    const size_t name = sizeof AUTH_COOKIE - 1;
    for (const char *p = cookie; p && *p; p += strcspn(p, ";"), p += *p == ';') {
        p += strspn(p, " ");
        if (strncmp(p, AUTH_COOKIE, name) == 0 && p[name] == '=')
            by_cookie(a, p + name + 1, strcspn(p + name + 1, "; "), now, u);
    }
}
