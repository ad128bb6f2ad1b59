/* SPDX-License-Identifier: Apache-2.0
 * err.c - filling and extending the error record declared in err.h. */
#include "models/base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *text;
    int exit_status, http_status;
} table[ERR_CODE_COUNT] = {
#define ERR_ROW(name, text, exit_status, http_status) [ERR_##name] = {#name, text, exit_status, http_status},
    ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

static __attribute__((format(printf, 3, 0))) void fill(char *dst, size_t size, const char *fmt, va_list ap)
{
    int n = vsnprintf(dst, size, fmt, ap);
    if (n >= 0 && (size_t)n >= size)
        memcpy(dst + size - 4, "...", 4);
}

bool err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    if (!e)
        return false;
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    fill(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    return false;
}

bool err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return false;
    char head[256], whole[sizeof e->msg + sizeof head + 2];
    va_list ap;
    va_start(ap, fmt);
    fill(head, sizeof head, fmt, ap);
    va_end(ap);
    snprintf(whole, sizeof whole, "%s: %s", head, e->msg);
    memcpy(e->msg, whole, sizeof e->msg);
    if (strlen(whole) >= sizeof e->msg)
        memcpy(e->msg + sizeof e->msg - 4, "...", 4);
    return false;
}

bool err_errno(struct err *e, enum err_code code, int saved_errno, const char *fmt, ...)
{
    if (!e)
        return false;
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    fill(what, sizeof what, fmt, ap);
    va_end(ap);
    switch (saved_errno) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
        code = ERR_RESOURCE;
        break;
    case ENOENT:
        code = ERR_NOT_FOUND;
        break;
    default:
        break;
    }
    return err_set(e, code, "%s: %s", what, strerror(saved_errno));
}

void err_clear(struct err *e)
{
    e->code = ERR_OK;
    e->msg[0] = '\0';
}

const char *err_name(enum err_code code)
{
    assert(code < ERR_CODE_COUNT);
    return table[code].name;
}

const char *err_text(enum err_code code)
{
    assert(code < ERR_CODE_COUNT);
    return table[code].text;
}

int err_exit_status(enum err_code code)
{
    assert(code < ERR_CODE_COUNT);
    return table[code].exit_status;
}

int err_http_status(enum err_code code)
{
    assert(code < ERR_CODE_COUNT);
    return table[code].http_status;
}
