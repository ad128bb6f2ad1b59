/* SPDX-License-Identifier: Apache-2.0
 *
 * auth.h - who is asking: tokens from a file, and the cookie a browser gets for one.
 *
 * The file holds one token a line, "ROLE NAME TOKEN", ROLE being reader, editor or admin; '#' starts a comment.
 * It must belong to the owner alone (mode 0600): what others may read is no secret. Only digests of the tokens
 * are kept, and a candidate is compared with all of them, each in constant time, so that neither the place of a
 * token in the file nor the length of a common prefix shows in the time an answer takes.
 *
 * A cookie is NAME.EXPIRY.HMAC-SHA256(key = digest of the token, "NAME.EXPIRY"): nothing has to be remembered, so
 * it survives a restart of the server, and it dies with its token. (RFC 6265, RFC 6750, RFC 2104.)
 *
 * Threads: immutable once opened. */
#ifndef AM_AUTH_H
#define AM_AUTH_H

#include "models/base/err.h"
#include <stdint.h>

enum auth_role { AUTH_NOBODY, AUTH_READER, AUTH_EDITOR, AUTH_ADMIN };
enum { AUTH_NAME_SIZE = 40, AUTH_COOKIE_SIZE = 160, AUTH_SESSION_SECONDS = 12 * 3600, AUTH_TOKEN_MIN = 16 };
#define AUTH_COOKIE "aftermap_session"

struct auth; /* the tokens */
struct auth_user {
    enum auth_role role;
    char name[AUTH_NAME_SIZE]; /* "" without tokens */
};

/* ERR_INPUT names the line at fault, or says that the file can be read by others. */
struct auth *auth_open(const char *path, struct err *e);
void auth_free(struct auth *a); /* accepts NULL */

/* Without tokens (NULL) everybody is an admin without a name: the server is on loopback then. */
void auth_by_token(const struct auth *a, const char *token, struct auth_user *u);
/* From the headers (either may be NULL); "Bearer" wins over the cookie. now in seconds since 1970. */
void auth_by_headers(const struct auth *a, const char *authorization, const char *cookie, int64_t now,
                     struct auth_user *u);
/* The cookie's value for a token; false when the token is none of ours. */
bool auth_make_cookie(const struct auth *a, const char *token, int64_t now, char out[AUTH_COOKIE_SIZE]);

const char *auth_role_name(enum auth_role r); /* "none", "reader", ... */

#endif
