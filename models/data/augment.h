/* SPDX-License-Identifier: Apache-2.0
 *
 * augment.h - weak and strong views. A view is a pure function of (image, kind, random key), so any thread makes any view.
 *
 * Plain sets (one date) follow the published recipes: weak = mirror (p .5, unless off) and reflect-pad size/8 random crop;
 * strong = weak, then RandAugment with 2 of 14 operations in Pillow's semantics (FixMatch "rac": levels 1..9, each applied
 * with p .5), then cutout of half the side.
 * Pairs follow the rule that a view must keep the relation between the dates: geometry is shared by both dates and the
 * masks (D4 group, shift, and for strong views rotation, shear, rescale with bilinear, nodata-aware sampling), photometry is
 * drawn per date (gain, offset, gamma, per-band gain, haze, blur, noise, down-up sampling), strong views add registration
 * jitter of post against pre and a small cutout at one place on both dates that may not hide the building. Colour inversion,
 * solarize, posterize, date swaps are not label-preserving and are not used. */
#ifndef AM_AUGMENT_H
#define AM_AUGMENT_H

#include "models/base/rng.h"
#include "models/data/imageset.h"

enum augment_kind { AUGMENT_NONE, AUGMENT_WEAK, AUGMENT_STRONG };

struct augment_config {
    struct imageset_layout layout;
    bool mirror; /* plain sets: false for digits, whose mirror image is another class */
    bool cutout; /* strong views end in cutout */
};

/* Bytes of scratch one augment_view call needs; give each thread its own. */
size_t augment_scratch_bytes(const struct augment_config *c);

/* px: stored image; x: network input [size,size,input channels]. */
void augment_view(const struct augment_config *c, enum augment_kind kind, const uint8_t *px, struct rng *r, float *x,
                  void *scratch);

/* Element g (0..7) of the square's symmetry group applied to a network input, for test-time averaging. x != out. */
void augment_d4(const struct imageset_layout *l, const float *x, int g, float *out);

#endif
