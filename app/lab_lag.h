/* SPDX-License-Identifier: Apache-2.0
 *
 * lab_lag.h - what the files of `aftermap lab lag` share: lab_lag.c (options, training), lab_lag_measure.c (claims of
 * a model on held-out images), lab_lag_enhance.c (made-up detail of an image or an event). */
#ifndef AM_LAB_LAG_H
#define AM_LAB_LAG_H

#include "app/command.h"
#include "app/lab_diffuse.h"
#include "models/learn/lag.h"

struct lab_lag {
    const char *data, *model, *out, *buildings;
    struct lag_config set;
    unsigned given;
    int verb, scale, size, n_count;
    bool no_mirror, resume;
};

/* Single-date images of what `lab diffuse` takes: both dates of an event's chip are images of their own. */
struct lag_images {
    struct diffuse_images all;
    int n_bands; /* of an image */
    size_t n;    /* images: chips times dates */
};
bool lag_images_load(struct lag_images *d, const struct lab_lag *c, int size, bool held_out, uint64_t seed,
                     const struct progress *progress, struct err *e);
void lag_images_free(struct lag_images *d); /* accepts a zeroed record */
/* Image i, mirrored or not, x [size,size,n_bands] in [-1,1]. */
void lag_images_take(const struct lag_images *d, size_t i, bool flip, float *x);

bool lag_run_measure(const struct lab_lag *c, const struct common *common, const struct progress *progress,
                     struct err *e);
bool lag_run_enhance(const struct lab_lag *c, const struct common *common, const struct progress *progress,
                     struct err *e);

#endif
