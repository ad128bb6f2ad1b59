/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_weights.h - the loops over all weights that the bodies with transformed weights share: before a pass, and after
 * the gradient of one. Private to kernels/. A body includes it once, behind its own
 *
 *   n_transformed(s)                        floats of all transformed weights
 *   transform_weight(g, u, c, k, n_c, n_k)  u = G g G' of one vector of output channels, 3x3 -> 6x6 matrices
 *   weight_gradient(u, o, step)             one step of the transpose, 6 -> 3
 *
 * for the loops have to be compiled with those inlined: a pointer to them does not survive OpenMP's outlining. */

static void prepare(const struct conv_shape *s, const float *w, float *prepared)
{
#pragma omp parallel for schedule(static)
    for (int c = 0; c < s->c; c++)
        for (int k = 0; k < s->k; k += VW) {
            vf g[9];
            for (int t = 0; t < 9; t++)
                g[t] = vec_load(w + ((size_t)t * s->c + c) * s->k + k);
            transform_weight(g, prepared, c, k, s->c, s->k);
        }
}

/* The data gradient's: turned, channels exchanged. */
static void prepare_turned(const struct conv_shape *s, const float *w, float *u)
{
#pragma omp parallel for schedule(static)
    for (int k = 0; k < s->k; k++)
        for (int c = 0; c < s->c; c += VW) {
            vf g[9];
            for (int t = 0; t < 9; t++) {
                const float *in = w + ((size_t)(8 - t) * s->c + c) * s->k + k;
                float lanes[VW];
                for (int i = 0; i < VW; i++)
                    lanes[i] = in[(size_t)i * s->k];
                g[t] = vec_load(lanes);
            }
            transform_weight(g, u, k, c, s->k, s->c);
        }
}

/* dw (+)= G' (sum of the shards' dU) G */
static void finish_weights(const struct conv_shape *s, const float *du, int n_shards, float *dw, bool add_to)
{
    const size_t step = (size_t)s->c * s->k, shard = n_transformed(s);
#pragma omp parallel for schedule(static)
    for (int c = 0; c < s->c; c++)
        for (int k = 0; k < s->k; k += VW) {
            const size_t at = (size_t)c * s->k + k;
            vf rows[3][6];
            for (int j = 0; j < 6; j++) {
                vf u[6];
                for (int i = 0; i < 6; i++) {
                    const float *in = du + (i * 6 + j) * step + at;
                    u[i] = vec_load(in);
                    for (int n = 1; n < n_shards; n++)
                        u[i] += vec_load(in + n * shard);
                }
                weight_gradient(u, &rows[0][j], 6);
            }
            for (int i = 0; i < 3; i++) {
                vf o[3];
                weight_gradient(rows[i], o, 1);
                for (int j = 0; j < 3; j++) {
                    float *out = dw + (i * 3 + j) * step + at;
                    if (add_to)
                        o[j] += vec_load(out);
                    vec_store(out, o[j]);
                }
            }
        }
}
