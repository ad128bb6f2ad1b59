/* SPDX-License-Identifier: Apache-2.0
 *
 * unet_file.h - runs of networks that unet_tensor lists describe (unet.h, lagnet.h), on disk in a checkpoint: blocks of
 * weight-like numbers under names "prefix" + tensor's name, settings in the metadata as one JSON object, and what
 * else the run and its caller say. A kind of file says what is its own: name, settings, their check.
 *
 * Ownership: records are plain and borrowed. Threads: none of its own. */
#ifndef AM_UNET_FILE_H
#define AM_UNET_FILE_H

#include "models/net/checkpoint.h"
#include "models/net/unet.h"

#include <cJSON.h>

/* A setting that JSON's numbers hold: a field of the settings' record. Whole numbers are in low..high, reals anywhere. */
enum unet_file_type { UNET_FILE_INT, UNET_FILE_UNSIGNED, UNET_FILE_BOOL, UNET_FILE_BIG, UNET_FILE_REAL };
struct unet_file_setting {
    const char *name;
    size_t at; /* offset of the field */
    enum unet_file_type type;
    double low, high;
};
/* clang-format off */
#define UNET_FILE_TYPE(value)                                                                                \
    _Generic(value, int: UNET_FILE_INT, unsigned: UNET_FILE_UNSIGNED, bool: UNET_FILE_BOOL,                  \
             uint64_t: UNET_FILE_BIG, double: UNET_FILE_REAL)
/* clang-format on */
#define UNET_FILE_SETTING(record, name, field, low, high)                                                    \
    {                                                                                                        \
        name, offsetof(struct record, field), UNET_FILE_TYPE(((struct record *)0)->field), low, high         \
    }

struct unet_file_kind {
    const char *name;  /* metadata aftermap.kind: "lag" */
    const char *key;   /* metadata of the settings: "lag.config" */
    const char *what;  /* in sentences: "latent adversarial generator" */
    const char *maker; /* the command that makes one */
    size_t config_size;
    const struct unet_file_setting *setting;
    int n_settings;
    void (*put)(const void *config, cJSON *j);        /* the other settings into the object */
    bool (*take)(const cJSON *j, void *config);       /* the other settings; those of the table are there */
    bool (*check)(const void *config, struct err *e); /* ERR_USAGE: settings that no run can have */
};

/* Numbers laid out as the tensors say: a network's weights, an average of them, an optimiser's moments. */
struct unet_file_block {
    const char *prefix; /* "net.g." */
    const struct unet_tensor *tensor;
    int n_tensors;
    float *values;
};

/* Version, kind and settings, then own and extra, and the blocks. ERR_RESOURCE, or as checkpoint_write(). */
bool unet_file_save(const struct unet_file_kind *kind, const char *path, const void *config,
                    const struct unet_file_block *block, int n_blocks, const struct checkpoint_meta *own,
                    int n_own, const struct checkpoint_meta *extra, int n_extra, struct err *e);
/* A file of this kind -> its settings, checked. NULL with ERR_MODEL. The caller closes it. */
struct checkpoint *unet_file_open(const struct unet_file_kind *kind, const char *path, void *config,
                                  struct err *e);
/* Whether a file's settings are the ones expected; ERR_MODEL when not. */
bool unet_file_same(const struct unet_file_kind *kind, const char *path, const void *config,
                    const void *expected, struct err *e);
/* Fills the blocks' values; ERR_MODEL when a tensor is missing or holds what is no number. */
bool unet_file_read(const struct checkpoint *f, const char *path, const struct unet_file_block *block,
                    int n_blocks, struct err *e);

/* 64 bits, which JSON's numbers do not hold, as text; the taker says whether they are there. */
void unet_file_put_big(cJSON *j, const char *name, uint64_t value);
bool unet_file_take_big(const cJSON *j, const char *name, uint64_t *value);
/* Decimal text that ends here, or at `end_at`; rest: NULL or where the next begins. false also for NULL. */
bool unet_file_number(const char *text, char end_at, uint64_t *value, const char **rest);

#endif
