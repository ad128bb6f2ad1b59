/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_level.c - the bodies of one instruction-set level, in the order they are asked. Compiled per level. */
#include "models/kernels/conv.h"
#include "models/kernels/vec.h"

extern const struct conv_body LEVEL(conv_winograd), LEVEL(conv_phase), LEVEL(conv_direct);

const struct conv_body *const LEVEL(conv_bodies)[] = {&LEVEL(conv_winograd), &LEVEL(conv_phase),
                                                      &LEVEL(conv_direct), &conv_plain, NULL};
