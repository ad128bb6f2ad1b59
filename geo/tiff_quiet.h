/* SPDX-License-Identifier: Apache-2.0
 *
 * tiff_quiet.h - TIFF files through libtiff without a word on the error stream. */
#ifndef AM_TIFF_QUIET_H
#define AM_TIFF_QUIET_H

#include <stddef.h>
#include <tiffio.h>

enum { TIFF_WHY_SIZE = 256 };

/* TIFFOpen; NULL with errno or the reason in why. why keeps the first message of the handle, lives as long as it, and
 * may be cleared. max_bytes bounds one allocation of libtiff (0: its own bounds). */
TIFF *tiff_open_quiet(const char *path, const char *mode, char why[TIFF_WHY_SIZE], size_t max_bytes);

#endif
