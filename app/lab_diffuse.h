/* SPDX-License-Identifier: Apache-2.0
 *
 * lab_diffuse.h - what the files of `aftermap lab diffuse` share: lab_diffuse.c (options, training),
 * lab_diffuse_data.c (images to learn from), lab_diffuse_sample.c (images made), lab_diffuse_compare.c (how far made ones
 * are from real ones). */
#ifndef AM_LAB_DIFFUSE_H
#define AM_LAB_DIFFUSE_H

#include "app/command.h"
#include "models/learn/tract.h"

enum { DIFFUSE_MAX_CLASSES = 64, DIFFUSE_CLASS_LIST = DIFFUSE_MAX_CLASSES * 33, DIFFUSE_META = 10 };

struct lab_diffuse {
    const char *model, *data, *out, *plan, *class_name, *classifier;
    struct string_list made; /* folders of samples to compare */
    struct tract_config set;
    unsigned given;
    int verb, size, width, n_count, n_calls;  /* size, n_calls 0: not given */
    bool no_mirror, is_btd, resume, held_out; /* held_out: images_load takes those of the test split */
};

/* Images in memory, shrunk to the size that is learnt: px [n,size,size,n_channels], sample/127.5-1 is what the
 * network sees; channels date by date. Only items of the training split, or only held-out ones. */
struct diffuse_images {
    int size, n_channels, n_dates, n_classes;
    size_t n;
    uint8_t *px;
    int16_t *label; /* -1: unknown */
    bool mirror;
    char classes[DIFFUSE_CLASS_LIST]; /* names, separated by commas */
    char source[512], digest[65], text[2][24];
    char split[32]; /* which items were left out: "event" its own, else the seed of a plain set's split */
};

/* size 0: the largest divisor of the chips' size up to 32. */
bool diffuse_images_load(struct diffuse_images *d, const struct lab_diffuse *c, int size, uint64_t seed,
                         const struct progress *progress, struct err *e);
void diffuse_images_free(struct diffuse_images *d); /* accepts a zeroed record */
/* Whether they are what the model was taught with: size, channels, classes. */
bool diffuse_images_match(const struct diffuse_images *d, const struct tract_model *m,
                          const struct lab_diffuse *c, struct err *e);
/* What a model remembers of them; pairs point into d. teacher: NULL or whom it is distilled from, whose images its
 * own then count beside. Returns their number. */
int diffuse_images_meta(struct diffuse_images *d, const struct tract_model *teacher,
                        struct checkpoint_meta meta[DIFFUSE_META]);
void diffuse_images_draw(void *ctx, uint64_t seed, uint64_t index, float *x, int *label); /* tract_data */

bool diffuse_sample(const struct lab_diffuse *c, const struct common *common, const struct progress *progress,
                    struct err *e);
bool diffuse_compare(const struct lab_diffuse *c, const struct common *common,
                     const struct progress *progress, struct err *e);

#endif
