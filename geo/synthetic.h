/* SPDX-License-Identifier: Apache-2.0
 *
 * synthetic.h - images that a model made up, written so that nobody can take them for observations: the file's
 * name begins with "synthetic-", its description says SYNTHETIC, by what and from which model, its metadata says
 * SYNTHETIC=YES (which `aftermap info` repeats), and a GeoTIFF has one more band than the image, all ones and
 * called "synthetic". Such a file has no place on earth and no date. */
#ifndef AM_SYNTHETIC_H
#define AM_SYNTHETIC_H

#include "models/base/err.h"
#include <stdint.h>

struct synthetic_mark {
    const char *algorithm; /* "diffusion" */
    const char *model;     /* digest of the model's weights */
    uint64_t seed;
    const char *shows; /* what the image was asked to show; NULL: nothing in particular */
};

#define SYNTHETIC_PREFIX "synthetic-"

/* px [h,w,n_bands] -> GeoTIFF of n_bands + 1 bands. path must carry the prefix (asserted). Atomic. */
bool synthetic_write_tiff(const char *path, const uint8_t *px, int w, int h, int n_bands,
                          const struct synthetic_mark *mark, struct err *e);
/* px [h,w,3] -> PNG. The same rules. */
bool synthetic_write_png(const char *path, const uint8_t *px, int w, int h, const struct synthetic_mark *mark,
                         struct err *e);

#endif
