/* SPDX-License-Identifier: Apache-2.0
 *
 * remixmatch.h - parts of remixmatch.c that a test takes by themselves. */
#ifndef AM_REMIXMATCH_H
#define AM_REMIXMATCH_H

enum { REMIXMATCH_TURNS = 4 };

/* x, out [size,size,channels]; turn 0: as it is, 1: 180 degrees, 2: 90 counter-clockwise, 3: 90 clockwise. */
void remixmatch_turn(const float *x, int size, int channels, int turn, float *out);

/* weight * mean cross-entropy of n embeddings [n,size] against the quarter each sits in. weights
 * [size+1, turns], bias last; dweights and dembedding are overwritten. */
double remixmatch_rotation(const float *embedding, int n, int size, const float *weights, double weight,
                           float *dweights, float *dembedding);

#endif
