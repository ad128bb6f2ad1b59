/* SPDX-License-Identifier: Apache-2.0
 *
 * lag_step.c - losses and gradients of one batch (lag_step.h). Four passes of the critic: x and G(y,z) together, whose
 * backward serves both networks (L_G's share of the fakes is minus L_D's, over ttur); G(y,0); x~; and x~'s tangent. */
#include "models/learn/lag_step.h"

#include "models/base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NORM_EPS 1e-8

bool lag_step_open(struct lag_step *s, const struct lagnet_config *net, int stage, int batch, struct err *e)
{
    struct unet_tensor *t = mem_array(LAGNET_MAX_TENSORS, sizeof *t, "the list of tensors", e);
    size_t first[LAGNET_MAX_STAGES + 2] = {0};
    const size_t side = (size_t)net->size << stage, pixels = (size_t)net->size * net->size,
                 two = 2 * (size_t)batch;
    *s = (struct lag_step){.net = *net,
                           .stage = stage,
                           .batch = batch,
                           .image = side * side * net->n_colors,
                           .small = pixels * net->n_colors,
                           .latent = pixels * net->n_noise,
                           .features = pixels * net->width};
    if (!t)
        return false;
    lagnet_list(net, LAGNET_CRITIC, stage, t, first);
    free(t);
    s->n_spare = first[stage + 1];
    if ((s->g = lagnet_create(net, LAGNET_GENERATOR, stage, 2 * batch, true, e)) &&
        (s->d = lagnet_create(net, LAGNET_CRITIC, stage, 2 * batch, true, e)) &&
        (s->input = mem_array(two * (s->small + s->latent), sizeof *s->input, "a batch", e)) &&
        (s->made = mem_array(two * s->image, sizeof *s->made, "a batch", e)) &&
        (s->seen = mem_array(two * s->image, sizeof *s->seen, "a batch", e)) &&
        (s->told = mem_array(two * s->small, sizeof *s->told, "a batch", e)) &&
        (s->seed = mem_array(two * s->features, sizeof *s->seed, "a batch", e)) &&
        (s->real = mem_array(s->batch * s->features, sizeof *s->real, "a batch", e)) &&
        (s->dx = mem_array(two * s->image, sizeof *s->dx, "a batch", e)) &&
        (s->dmade = mem_array(two * s->image, sizeof *s->dmade, "a batch", e)) &&
        (s->spare = mem_array(s->n_spare, sizeof *s->spare, "the critic's gradients", e)))
        return true;
    lag_step_close(s);
    return false;
}

void lag_step_close(struct lag_step *s)
{
    unet_real *const blocks[] = {s->input, s->made, s->seen,  s->told, s->seed,
                                 s->real,  s->dx,   s->dmade, s->spare};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
    lagnet_free(s->g);
    lagnet_free(s->d);
    *s = (struct lag_step){0};
}

size_t lag_step_bytes(const struct lag_step *s)
{
    const size_t two = 2 * (size_t)s->batch;
    return lagnet_bytes(s->g) + lagnet_bytes(s->d) +
           (two * (5 * s->small + s->latent + 4 * s->image + s->features) + s->batch * s->features +
            s->n_spare) *
               sizeof(unet_real);
}

void lag_halve(const unet_real *x, int size, int c, unet_real *y)
{
    const size_t row = (size_t)size * c;
    assert(size % 2 == 0);
    for (int r = 0; r < size / 2; r++)
        for (int s = 0; s < size / 2; s++) {
            const unet_real *from = x + 2 * r * row + (size_t)2 * s * c;
            unet_real *to = y + ((size_t)r * (size / 2) + s) * c;
            for (int k = 0; k < c; k++)
                to[k] = (unet_real)0.25 * (from[k] + from[c + k] + from[row + k] + from[row + c + k]);
        }
}

void lag_fade(unet_real *x, int size, int c, double alpha, unet_real *work)
{
    lag_halve(x, size, c, work);
    for (int r = 0; r < size; r++)
        for (int s = 0; s < size; s++)
            for (int k = 0; k < c; k++) {
                unet_real *v = &x[((size_t)r * size + s) * c + k];
                const unet_real coarse = work[((size_t)(r / 2) * (size / 2) + s / 2) * c + k];
                *v = alpha >= 1 ? *v : coarse + (unet_real)alpha * (*v - coarse);
            }
}

/* Mean of P over n features, a whole number of positions. */
static double score(const unet_real *features, size_t n, int width)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += lag_sign(i % width) * (double)features[i];
    return sum / (double)n;
}

static void generate(struct lag_step *s, const unet_real *y, const unet_real *z, double alpha)
{
    const size_t pixels = (size_t)s->net.size * s->net.size, colors = s->net.n_colors, noise = s->net.n_noise;
    for (size_t p = 0; p < 2 * s->batch * pixels; p++) {
        const size_t q = p % (s->batch * pixels);
        unet_real *to = s->input + p * (colors + noise);
        memcpy(to, y + q * colors, colors * sizeof *to);
        for (size_t k = 0; k < noise; k++)
            to[colors + k] = p < s->batch * pixels ? z[q * noise + k] : 0;
    }
    const unet_real *made = lagnet_forward(s->g, s->input, NULL, alpha, 2 * s->batch);
    memcpy(s->made, made, 2 * s->batch * s->image * sizeof *made);
}

/* The critic on x and G(y,z): L_D but for its penalty, and L_G's adversarial part. */
static void contest(struct lag_step *s, const unet_real *x, const unet_real *y, double alpha, double ttur,
                    unet_real *d_grads, struct lag_losses *losses)
{
    const size_t n = s->batch * s->features;
    memcpy(s->seen, x, s->batch * s->image * sizeof *x);
    memcpy(s->seen + s->batch * s->image, s->made, s->batch * s->image * sizeof *x);
    memcpy(s->told, y, s->batch * s->small * sizeof *y);
    memcpy(s->told + s->batch * s->small, y, s->batch * s->small * sizeof *y);
    const unet_real *p = lagnet_forward(s->d, s->seen, s->told, alpha, 2 * s->batch);
    memcpy(s->real, p, n * sizeof *p);
    losses->real = score(p, n, s->net.width);
    losses->fake = score(p + n, n, s->net.width);
    for (size_t i = 0; i < n; i++) {
        const double share = ttur * lag_sign(i % s->net.width) / (double)n;
        s->seed[i] = (unet_real)-share;
        s->seed[n + i] = (unet_real)share;
    }
    lagnet_backward(s->d, s->seed, d_grads, s->dx);
    for (size_t i = 0; i < s->batch * s->image; i++)
        s->dmade[i] = -s->dx[s->batch * s->image + i] / (unet_real)ttur;
}

/* The critic on G(y,0): the squared distance to P(x), of which only the generator learns. */
static void centre(struct lag_step *s, const unet_real *y, double alpha, struct lag_losses *losses)
{
    const size_t n = s->batch * s->features;
    const unet_real *p = lagnet_forward(s->d, s->made + s->batch * s->image, y, alpha, s->batch);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double off = (double)s->real[i] - (double)p[i]; /* signs cancel */
        sum += off * off;
        s->seed[i] = (unet_real)(-2 * LAG_LATENT * off / (double)n);
    }
    losses->latent = sum / (double)n;
    lagnet_backward(s->d, s->seed, s->spare, s->dmade + s->batch * s->image);
}

static void penalise(struct lag_step *s, const unet_real *x, const unet_real *y, const unet_real *u,
                     double alpha, double ttur, unet_real *d_grads, struct lag_losses *losses)
{
    const double shrunk = ldexp(1, 2 * (s->net.n_stages - s->stage)); /* n^2 */
    for (size_t i = 0; i < s->batch * s->image; i++)
        s->seen[i] = x[i] + u[i / s->image] * (s->made[i] - x[i]);
    lagnet_forward(s->d, s->seen, y, alpha, s->batch);
    for (size_t i = 0; i < s->batch * s->features; i++)
        s->seed[i] = (unet_real)(lag_sign(i % s->net.width) / s->net.width);
    lagnet_backward(s->d, s->seed, s->spare, s->dx);
    losses->norm = losses->penalty = 0;
    for (int b = 0; b < s->batch; b++) {
        unet_real *g = s->dx + b * s->image;
        double sum = 0;
        for (size_t i = 0; i < s->image; i++)
            sum += (double)g[i] * (double)g[i];
        const double count = (double)s->image * shrunk * shrunk, norm = sqrt(sum / count + NORM_EPS);
        const double kappa = ttur * LAG_PENALTY * 2 * (norm - 1) / (norm * count * s->batch);
        losses->norm += norm / s->batch;
        losses->penalty += (norm - 1) * (norm - 1) / s->batch;
        for (size_t i = 0; i < s->image; i++)
            g[i] = (unet_real)(kappa * (double)g[i]);
    }
    lagnet_tangent(s->d, s->dx);
    lagnet_backward(s->d, s->seed, s->spare, NULL);
    for (size_t i = 0; i < s->n_spare; i++)
        d_grads[i] += s->spare[i];
}

void lag_step_run(struct lag_step *s, const unet_real *g_values, const unet_real *d_values,
                  const unet_real *x, const unet_real *y, const unet_real *z, const unet_real *u,
                  double alpha, double ttur, unet_real *g_grads, unet_real *d_grads,
                  struct lag_losses *losses)
{
    lagnet_load(s->g, g_values);
    lagnet_load(s->d, d_values);
    generate(s, y, z, alpha);
    contest(s, x, y, alpha, ttur, d_grads, losses);
    centre(s, y, alpha, losses);
    penalise(s, x, y, u, alpha, ttur, d_grads, losses);
    lagnet_backward(s->g, s->dmade, g_grads, NULL);
}
