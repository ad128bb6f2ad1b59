/* SPDX-License-Identifier: Apache-2.0
 *
 * lag_measure.c - the paper's claims about a model, as numbers: draws agree with the small image, they vary with z, and
 * z = 0 lies amid them (lag.h). Of each y there are n_draws draws; what "amid" means is the ratio
 *
 *   rho = |P(G(y,0)) - m| / sqrt(mean_z |P(G(y,z)) - m|^2),  m = mean_z P(G(y,z)),
 *
 * in the critic's features, where the loss acts, and the same of pixels. 1/sqrt(n_draws) is what a draw's own mean
 * would give by chance, 1 what a draw gives. Numerators and denominators are averaged over images apart. */
#include "models/learn/lag_parts.h"

#include "models/base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GREY 127.5

struct measuring {
    struct lag_maker *k;
    size_t image, small, features;
    int n_draws;
    float *y, *z, *down; /* [n_draws] of y, of z; one y */
    float *made, *felt;  /* [n_draws + 1]: draws, then the centre */
    double *mean;        /* of an image or its features */
    double num[2], den[2];
};

static double square_distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum / (double)n;
}

/* v [n_draws + 1, n]: how far the centre and the draws lie from the draws' mean. Returns whether the centre is the
 * nearest of all. spread: the draws' mean square distance. */
static bool amid(struct measuring *m, const float *v, size_t n, double *num, double *den, double *spread)
{
    bool nearest = true;
    double centre = 0, sum = 0;
    memset(m->mean, 0, n * sizeof *m->mean);
    for (int d = 0; d < m->n_draws; d++)
        for (size_t i = 0; i < n; i++)
            m->mean[i] += (double)v[d * n + i] / m->n_draws;
    for (size_t i = 0; i < n; i++) {
        const double off = (double)v[m->n_draws * n + i] - m->mean[i];
        centre += off * off;
    }
    for (int d = 0; d < m->n_draws; d++) {
        double own = 0;
        for (size_t i = 0; i < n; i++)
            own += ((double)v[d * n + i] - m->mean[i]) * ((double)v[d * n + i] - m->mean[i]);
        nearest = nearest && centre < own;
        sum += own / m->n_draws;
    }
    *num += sqrt(centre);
    *den += sqrt(sum);
    *spread = sum / (double)n;
    return nearest;
}

static void shrink(const struct lagnet_config *c, const float *x, size_t image, float *work, float *y,
                   size_t small)
{
    memcpy(work, x, image * sizeof *x);
    for (int s = c->n_stages; s > 0; s--)
        lag_halve(work, c->size << s, c->n_colors, work);
    memcpy(y, work, small * sizeof *y);
}

/* One true image; sums of squares go to out, which lag_measure divides. work: an image. */
static void measure_one(struct measuring *m, const float *x, size_t number, uint64_t seed, float *work,
                        struct lag_measures *out)
{
    const struct lagnet_config *c = &m->k->model->config.net;
    const int n = m->n_draws;
    const size_t pixels = (size_t)c->size * c->size;
    double spread;
    shrink(c, x, m->image, work, m->y, m->small);
    for (int d = 0; d < n; d++) {
        memcpy(m->y + d * m->small, m->y, m->small * sizeof *m->y);
        for (size_t p = 0; p < pixels; p++)
            lag_noise(seed, (uint32_t)d + 1, (uint32_t)number, (uint32_t)p, c->n_noise,
                      m->z + (d * pixels + p) * c->n_noise);
    }
    memcpy(m->made, lag_make(m->k, m->y, m->z, n), n * m->image * sizeof *m->made);
    memcpy(m->felt, lag_features(m->k, m->made, m->y, n), n * m->features * sizeof *m->felt);
    float *centre = m->made + n * m->image;
    memcpy(centre, lag_make(m->k, m->y, NULL, 1), m->image * sizeof *centre);
    memcpy(m->felt + n * m->features, lag_features(m->k, centre, m->y, 1), m->features * sizeof *m->felt);

    out->nearest += amid(m, m->felt, m->features, &m->num[0], &m->den[0], &spread);
    out->nearest_pixels += amid(m, m->made, m->image, &m->num[1], &m->den[1], &spread);
    out->sd += spread * n / (n - 1);
    for (int d = 0; d <= n; d++) {
        float *down = m->down;
        shrink(c, m->made + d * m->image, m->image, work, down, m->small);
        const double off = square_distance(down, m->y, m->small),
                     error = square_distance(m->made + d * m->image, x, m->image);
        *(d < n ? &out->off_draws : &out->off_centre) += d < n ? off / n : off;
        *(d < n ? &out->error_draws : &out->error_centre) += d < n ? error / n : error;
    }
    const int side = c->size << c->n_stages;
    double plain = 0;
    for (int r = 0; r < side; r++)
        for (int s = 0; s < side; s++)
            for (int b = 0; b < c->n_colors; b++) {
                const double off =
                    (double)x[((size_t)r * side + s) * c->n_colors + b] -
                    (double)
                        m->y[((size_t)(r >> c->n_stages) * c->size + (s >> c->n_stages)) * c->n_colors + b];
                plain += off * off;
            }
    out->error_plain += plain / (double)m->image;
}

bool lag_measure(struct lag_maker *k, const float *x, size_t n, int n_draws, uint64_t seed,
                 struct lag_measures *out, const struct progress *progress, struct err *e)
{
    const struct lagnet_config *c = &k->model->config.net;
    const size_t pixels = (size_t)c->size * c->size, draws = (size_t)n_draws;
    struct measuring m = {.k = k,
                          .image = lag_full_size(c),
                          .small = pixels * c->n_colors,
                          .features = pixels * c->width,
                          .n_draws = n_draws};
    assert(n > 0 && n_draws > 1 && n_draws <= k->max_batch && k->d);
    *out = (struct lag_measures){.n_images = n, .n_draws = n_draws};
    float *work = mem_array(m.image, sizeof *work, "an image", e);
    bool ok =
        work && (m.y = mem_array(draws * m.small, sizeof *m.y, "the small images", e)) &&
        (m.z = mem_array(draws * pixels * c->n_noise, sizeof *m.z, "the noise", e)) &&
        (m.down = mem_array(m.small, sizeof *m.down, "a small image", e)) &&
        (m.made = mem_array((draws + 1) * m.image, sizeof *m.made, "the draws", e)) &&
        (m.felt = mem_array((draws + 1) * m.features, sizeof *m.felt, "the draws' features", e)) &&
        (m.mean = mem_array(m.image > m.features ? m.image : m.features, sizeof *m.mean, "the mean", e));
    for (size_t i = 0; ok && i < n; i++) {
        if (progress_stopped(progress))
            ok = err_set(e, ERR_INTERRUPTED, "stopped after %zu of %zu images", i, n);
        else
            measure_one(&m, x + i * m.image, i, seed, work, out);
        progress_report(progress, "measure", (double)i + 1, (double)n, NULL);
    }
    double *const squares[] = {&out->off_centre,   &out->off_draws,   &out->sd,
                               &out->error_centre, &out->error_draws, &out->error_plain};
    for (size_t i = 0; i < sizeof squares / sizeof *squares; i++)
        *squares[i] = GREY * sqrt(*squares[i] / (double)n);
    out->rho = m.den[0] > 0 ? m.num[0] / m.den[0] : 0;
    out->rho_pixels = m.den[1] > 0 ? m.num[1] / m.den[1] : 0;
    out->nearest /= (double)n;
    out->nearest_pixels /= (double)n;
    free(work);
    free(m.y);
    free(m.z);
    free(m.down);
    free(m.made);
    free(m.felt);
    free(m.mean);
    return ok;
}
