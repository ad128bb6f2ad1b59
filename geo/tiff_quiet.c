/* SPDX-License-Identifier: Apache-2.0
 *
 * tiff_quiet.c - libtiff's messages kept for whoever made the call. Declared in tiff_quiet.h. */
#include "geo/tiff_quiet.h"

#include <stdarg.h>
#include <stdio.h>

static int on_error(TIFF *tif, void *user, const char *module, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));
static int on_error(TIFF *tif, void *user, const char *module, const char *fmt, va_list ap)
{
    (void)tif;
    (void)module;
    char *why = user;
    if (*why == '\0')
        vsnprintf(why, TIFF_WHY_SIZE, fmt, ap);
    return 1;
}

static int on_warning(TIFF *tif, void *user, const char *module, const char *fmt, va_list ap)
{
    (void)tif;
    (void)user;
    (void)module;
    (void)fmt;
    (void)ap;
    return 1;
}

TIFF *tiff_open_quiet(const char *path, const char *mode, char why[TIFF_WHY_SIZE], size_t max_bytes)
{
    TIFFOpenOptions *o = TIFFOpenOptionsAlloc();
    if (!o)
        return NULL;
    *why = '\0';
    TIFFOpenOptionsSetErrorHandlerExtR(o, on_error, why);
    TIFFOpenOptionsSetWarningHandlerExtR(o, on_warning, NULL);
    if (max_bytes)
        TIFFOpenOptionsSetMaxSingleMemAlloc(o, (tmsize_t)max_bytes);
    TIFF *tif = TIFFOpenExt(path, mode, o);
    TIFFOpenOptionsFree(o);
    return tif;
}
