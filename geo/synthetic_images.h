/* SPDX-License-Identifier: Apache-2.0
 *
 * synthetic_images.h - images of `lab diffuse sample` as training items beside observed ones, for `train
 * --synthetic` alone. What is made up cannot be told from what was observed once it is in a set, so all that is known
 * of it goes into the model that learns from it (struct synthetic_facts).
 *
 * Samples are smaller than chips: they are enlarged by a triangle filter. They have no outline of a building: each
 * takes that of an observed training item of its class, drawn by seed. Both dates count as seen everywhere. */
#ifndef AM_SYNTHETIC_IMAGES_H
#define AM_SYNTHETIC_IMAGES_H

#include "models/base/progress.h"
#include "models/data/imageset.h"

struct synthetic_facts {
    size_t n, of_class[64]; /* images, and how many of each class of the set */
    char digest[65];        /* over samples and classes */
    char models[200];       /* "diffusion 0123456789abcdef", the distinct makers, separated by commas */
    /* What the maker had learnt from, as the list beside the images says; "" where there is none. split: "event", or
     * the seed that held a plain set's test share out, or "several". */
    char learnt_from[512], learnt_digest[65], learnt_split[32];
};

/* path: a folder with synthetic-*.tif, or one such file. like: the set they are to join, whose classes they take; cut:
 * of its grades (event.h), -1 for a plain set. small: the samples as they are, px [n,side,side,bands of all dates] and
 * label alone, layout.n_dates 1. ERR_INPUT: no image, not made up, of no class or of one that `like` does not know, other
 * bands, not square. */
bool synthetic_images_read(struct imageset *small, const char *path, const struct imageset *like, int cut,
                           struct synthetic_facts *facts, const struct progress *p, struct err *e);
/* Images of such a small set, which are enlarged in place to the layout of like, with masks: labelled IMAGESET_TRAIN
 * items whose ids are negative and follow from their content. */
bool synthetic_images_fit(struct imageset *set, struct imageset *small, const struct imageset *like,
                          uint64_t seed, struct err *e);
/* Both. */
bool synthetic_images_load(struct imageset *set, const char *path, const struct imageset *like, int cut,
                           uint64_t seed, struct synthetic_facts *facts, const struct progress *p,
                           struct err *e);

#endif
