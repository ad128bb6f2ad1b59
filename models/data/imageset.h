/* SPDX-License-Identifier: Apache-2.0
 *
 * imageset.h - what is learnt from: a set of equally sized images with labels, in memory, whatever it came
 * from (CIFAR binary, IDX, an image folder, the chips of an event).
 *
 * Stored samples are 8 bit. Channel order of one image, interleaved per pixel [n,size,size,c]:
 *   n_dates * n_bands band samples, date-major (pre 1..b, post 1..b; plain sets have one date);
 *   then, when has_masks: one validity byte (bit d set = date d has data here) and one footprint byte (255
 * inside the building, 0 outside). The network sees float x = u8/127.5 - 1 per band sample, 0 where that date
 * has no data, and, when use_footprint, one more channel +1 inside the footprint, -1 outside.
 * With use_match the last channel says how alike both dates are around each pixel (match.h).
 * imageset_input_channels() counts what the network sees. */
#ifndef AM_IMAGESET_H
#define AM_IMAGESET_H

#include "models/base/err.h"
#include <stddef.h>
#include <stdint.h>

enum { IMAGESET_NO_LABEL = -1, IMAGESET_MAX_DATES = 2, IMAGESET_MAX_BANDS = 8, IMAGESET_MAX_SIZE = 1024 };

enum imageset_split {
    IMAGESET_TRAIN,
    IMAGESET_TEST,
    IMAGESET_BUFFER, /* neither: too near a test item */
    IMAGESET_SOURCE  /* a labelled item of another place, in a set that training put together */
};

struct imageset_layout {
    int size;             /* pixels a side */
    int n_dates, n_bands; /* 1 and 3 for CIFAR; 2 and 3 for RGB pairs */
    bool has_masks;       /* validity and footprint bytes follow the bands */
    bool use_footprint;   /* the network gets the footprint as a channel */
    bool use_match;       /* two dates: the network gets their likeness as its last channel */
};

struct imageset {
    struct imageset_layout layout;
    size_t n;
    uint8_t *px;    /* [n,size,size,stored channels] */
    int16_t *label; /* [n], IMAGESET_NO_LABEL when unknown */
    int64_t *id;    /* [n], stable across runs: row of the source */
    int32_t *block; /* [n], spatial block (bootstrap and split unit); for plain sets the item itself */
    uint8_t *split; /* [n], enum imageset_split */
    /* NULL, or what another model answers for each item [n,n_classes]: then a labelled item teaches its answer, and its
     * label is the answer's most likely class. taught [n]: 1 where a person's label taught the model that answers. */
    float *soft;
    uint8_t *taught;
    int n_classes;
    char class_name[64][32]; /* the first 64 classes' names; "" beyond */
    char source[512];        /* what it was opened from, for provenance */
    char digest[65]; /* SHA-256 of the source's bytes; of two files: of their two hex digests, one after the
                        other */
};

int imageset_stored_channels(const struct imageset_layout *l);
int imageset_input_channels(const struct imageset_layout *l);

/* Zeroed arrays for n images. On failure nothing is left allocated. */
bool imageset_alloc(struct imageset *set, size_t n, const struct imageset_layout *l, struct err *e);
void imageset_free(struct imageset *set); /* accepts a zeroed set */

/* Opens "cifar10:FILE" (records of 1 label byte + 3072), "idx:IMAGES,LABELS" (IDX, plain or gzip; 3 or 4
 * dimensions; IMAGES of any square size). Images whose side is no multiple of 4 are padded by replication to
 * the next one. Every item gets split TRAIN or TEST: a seeded, class-stratified test_share. "folder:DIR"
 * lives in geo/, which can decode images. Any of them may end in steps @items=N, @crop=N, @pad=N, @size=N,
 * @bands=N that bring it to another layout (imageset_shape.c). */
bool imageset_open(struct imageset *set, const char *spec, double test_share, uint64_t seed, struct err *e);
bool imageset_is_spec(const char *spec); /* starts with cifar10: idx: or folder: */

/* Takes the steps at a spec's end; the set has its labels and ids, but no split yet. ERR_USAGE for a layout
 * that cannot be made; the set may then be of any layout and is good for imageset_free() alone. */
bool imageset_shape(struct imageset *set, const char *spec, struct err *e);
size_t imageset_spec_length(const char *spec); /* without the steps at its end */

/* The seeded class-stratified split used for sets without geography; fills set->split and set->block = item.
 */
bool imageset_split_random(struct imageset *set, double test_share, uint64_t seed, struct err *e);

/* Stored image -> network input, no augmentation. x [size,size,input channels]. */
void imageset_to_input(const struct imageset_layout *l, const uint8_t *px, float *x);

/* Labelled subset (the rule of the MixMatch family's published splits), drawn by seed from the labelled
 * candidates: per_class > 0: exactly per_class of each class of the set; ERR_INPUT names the class that has
 * fewer per_class < 0: -per_class items in all, proportional to class frequency among the candidates
 *   per_class == 0: every labelled candidate
 * For one seed a smaller subset of the first two kinds lies inside a larger one.
 * candidates: indices to draw from. out: chosen indices, ascending; caller frees. */
bool imageset_choose_labels(const struct imageset *set, const uint32_t *candidates, size_t n_candidates,
                            int per_class, uint64_t seed, uint32_t **out, size_t *n_out, struct err *e);

#endif
