/* SPDX-License-Identifier: Apache-2.0
 * session.c - /session: a browser trades a token for a cookie, because pictures and event streams send no header of
 * the page's choosing. */
#include "web/http.h"
#include "web/routes.h"
#include "web/service.h"

#include <string.h>
#include <time.h>

static void reply_user(const struct service *s, const struct auth_user *u, struct http_reply *a)
{
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "role", auth_role_name(u->role));
    cJSON_AddStringToObject(doc, "name", u->name);
    cJSON_AddBoolToObject(doc, "auth", s->auth != NULL);
    http_reply_json(a, HTTP_JSON, doc);
    http_reply_header(a, "Cache-Control", "no-store");
}

static void set_cookie(const struct service *s, struct http_reply *a, const char *value, int seconds)
{
    http_reply_header(a, "Set-Cookie", AUTH_COOKIE "=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%d%s",
                      value, seconds, s->is_tls ? "; Secure" : "");
}

void session_get(const struct service *s, const struct http_request *q, const char *const *arg,
                 struct http_reply *a)
{
    (void)arg;
    reply_user(s, &q->user, a);
}

void session_post(const struct service *s, const struct http_request *q, const char *const *arg,
                  struct http_reply *a)
{
    struct auth_user user;
    char value[AUTH_COOKIE_SIZE];
    (void)arg;
    cJSON *doc = http_body_json(q, a);
    const char *token = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "token"));
    if (!doc)
        return;
    if (!token) {
        http_problem(q, a, 400, "/token", "the token is missing");
    } else if (!s->auth) {
        reply_user(s, &q->user, a); /* everybody is signed in */
    } else if (!auth_make_cookie(s->auth, token, time(NULL), value)) {
        http_problem(q, a, 401, "/token", "this token is not known here");
        http_reply_header(a, "WWW-Authenticate", "Bearer realm=\"aftermap\", error=\"invalid_token\"");
    } else {
        auth_by_token(s->auth, token, &user);
        reply_user(s, &user, a);
        set_cookie(s, a, value, AUTH_SESSION_SECONDS);
    }
    cJSON_Delete(doc);
}

void session_delete(const struct service *s, const struct http_request *q, const char *const *arg,
                    struct http_reply *a)
{
    (void)q;
    (void)arg;
    a->status = 204;
    set_cookie(s, a, "", 0);
}
