/* SPDX-License-Identifier: Apache-2.0
 *
 * augment.h - weak and strong views. A view is a pure function of (image, kind, random key), so any thread
 * makes any view.
 *
 * Plain sets (one date of one or three bands, no masks) follow the published recipes: weak = mirror (p .5,
 * unless off) and reflect-pad size/8 random crop; strong = weak, then RandAugment with 2 of 14 operations in
 * Pillow's semantics (FixMatch "rac": levels 1..9, each applied with p .5), then cutout of half the side.
 *
 * Everything else is a pair (of one date if need be), whose views must keep the relation between the dates:
 * geometry is shared by both dates and the masks, photometry is drawn per date.
 *   weak    an element of the D4 group; a reflected shift of up to 4 px (size/8 on small patches); brightness
 *           within 5 % per date
 *   strong  D4 with rotation, shear, rescale, shift and a registration jitter of post against pre, all in one
 *           bilinear resample that gives no data (input 0, footprint "outside") where it reaches outside the
 *           patch or into pixels without data; two operations per date from gain, offset, contrast, gamma,
 *           per-band gain, haze, blur, noise, down-up sampling; a small cutout at one place on both dates
 * that may not hide the building, filled with each band's mean Colour inversion, solarize, posterize, date
 * swaps are not label-preserving and are not used. The tables of both policies are in augment_ops.h. Threads:
 * no state, any number. */
#ifndef AM_AUGMENT_H
#define AM_AUGMENT_H

#include "models/base/rng.h"
#include "models/data/imageset.h"

enum augment_kind { AUGMENT_NONE, AUGMENT_WEAK, AUGMENT_STRONG };

struct augment_config {
    struct imageset_layout layout;
    bool mirror; /* plain sets: false for digits, whose mirror image is another class */
    bool cutout; /* strong views end in cutout */
    /* Views with a likeness channel lose all bands now and then, so that neither colour nor likeness can stand
     * for both (dropping a modality: Neverova et al., "ModDrop", 2016). */
    bool hide_bands;
};

/* Bytes of scratch one augment_view call needs; give each thread its own. */
size_t augment_scratch_bytes(const struct augment_config *c);

/* px: stored image; x: network input [size,size,input channels]; r: freshly initialised with the view's key;
 * scratch: augment_scratch_bytes(c), any alignment. AUGMENT_NONE uses neither r nor scratch, they may be
 * NULL. */
void augment_view(const struct augment_config *c, enum augment_kind kind, const uint8_t *px, struct rng *r,
                  float *x, void *scratch);

/* Element g (0..7; 0 is the identity) of the square's symmetry group applied to a network input, for
 * test-time averaging. x != out. */
void augment_d4(const struct imageset_layout *l, const float *x, int g, float *out);

#endif
