/* SPDX-License-Identifier: Apache-2.0
 *
 * distance.c - distances of sets of images, as distance.h declares them. Square roots of matrices go by symmetric
 * eigenvalues, negative ones cut to 0: a general matrix root loses half the digits where a covariance is singular. */
#include "models/learn/distance.h"

#include "models/base/mem.h"
#include "models/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_SUBSETS = 20, SUBSET = 500, N_HALVES = 5, PATCH = 7, PATCHES = 8, DIRECTIONS = 200, NEIGHBOUR = 3 };

/* LAPACK, from OpenBLAS; the lengths at the end are those of the character arguments. */
void dsyev_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
            double *work, const int *lwork, int *info, size_t length_z, size_t length_uplo);

/* ---- Frechet ---- */

/* a [d,d] symmetric -> its eigenvectors, a row each; values [d]. */
static bool eigen(double *a, int d, double *values, struct err *e)
{
    int info = 0;
    const int n_work = 34 * d;
    double *work = mem_array((size_t)n_work, sizeof *work, "the distance", e);
    if (!work)
        return false;
    dsyev_("V", "U", &d, a, &d, values, work, &n_work, &info, 1, 1);
    free(work);
    return info == 0 || err_set(e, ERR_RUNTIME, "LAPACK's eigenvalues did not converge (dsyev: %d)", info);
}

/* out = a b, all [d,d] symmetric or not. */
static void multiply(const double *a, const double *b, size_t d, double *out)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < d; i++) {
        memset(out + i * d, 0, d * sizeof *out);
        for (size_t k = 0; k < d; k++) {
            const double v = a[i * d + k];
            for (size_t j = 0; j < d; j++)
                out[i * d + j] += v * b[k * d + j];
        }
    }
}

bool distance_frechet_gauss(const double *mean_a, const double *cov_a, const double *mean_b,
                            const double *cov_b, int d_, double *out, struct err *e)
{
    const size_t d = (size_t)d_, square = d * d;
    double *room = mem_array(4 * square + d, sizeof *room, "the distance", e);
    if (!room)
        return false;
    double *u = room, *root = u + square, *left = root + square, *both = left + square,
           *value = both + square;
    memcpy(u, cov_a, square * sizeof *u);
    bool ok = eigen(u, d_, value, e);
    for (size_t i = 0; ok && i < d; i++)
        for (size_t j = 0; j < d; j++) {
            double sum = 0;
            for (size_t k = 0; k < d; k++)
                sum += sqrt(fmax(0, value[k])) * u[k * d + i] * u[k * d + j];
            root[i * d + j] = sum;
        }
    if (ok) {
        multiply(root, cov_b, d, left);
        multiply(left, root, d, both);
        for (size_t i = 0; i < d; i++) /* symmetric but for rounding */
            for (size_t j = 0; j < i; j++)
                both[i * d + j] = both[j * d + i] = (both[i * d + j] + both[j * d + i]) / 2;
        ok = eigen(both, d_, value, e);
    }
    double sum = 0;
    for (size_t i = 0; ok && i < d; i++) {
        const double shift = mean_a[i] - mean_b[i];
        sum += shift * shift + cov_a[i * d + i] + cov_b[i * d + i] - 2 * sqrt(fmax(0, value[i]));
    }
    *out = sum;
    free(room);
    return ok;
}

/* Mean [d] and unbiased covariance [d,d] of the rows listed (NULL: all). */
static void moments(const float *x, const uint32_t *row, size_t n, size_t d, double *mean, double *cov)
{
    memset(mean, 0, d * sizeof *mean);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++)
            mean[j] += (double)x[(row ? row[i] : i) * d + j];
    for (size_t j = 0; j < d; j++)
        mean[j] /= (double)n;
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t j = 0; j < d; j++) {
        memset(cov + j * d, 0, d * sizeof *cov);
        for (size_t i = 0; i < n; i++) {
            const float *at = x + (row ? row[i] : i) * d;
            const double v = (double)at[j] - mean[j];
            for (size_t k = 0; k < d; k++)
                cov[j * d + k] += v * ((double)at[k] - mean[k]);
        }
        for (size_t k = 0; k < d; k++)
            cov[j * d + k] /= (double)(n - 1);
    }
}

/* Rows of b listed in row_b (NULL: all n_b). */
static bool frechet(const float *a, size_t n_a, const float *b, const uint32_t *row_b, size_t n_b, int d,
                    double *out, struct err *e)
{
    const size_t size = (size_t)d, square = size * size;
    double *room = mem_array(2 * (size + square), sizeof *room, "the distance", e);
    assert(n_a >= 2 && n_b >= 2 && d >= 1);
    if (!room)
        return false;
    double *mean_a = room, *mean_b = room + size, *cov_a = room + 2 * size, *cov_b = cov_a + square;
    moments(a, NULL, n_a, size, mean_a, cov_a);
    moments(b, row_b, n_b, size, mean_b, cov_b);
    const bool ok = distance_frechet_gauss(mean_a, cov_a, mean_b, cov_b, d, out, e);
    free(room);
    return ok;
}

bool distance_frechet(const float *a, size_t n_a, const float *b, size_t n_b, int d, double *out,
                      struct err *e)
{
    return frechet(a, n_a, b, NULL, n_b, d, out, e);
}

static int by_size(const void *pa, const void *pb)
{
    const double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

bool distance_frechet_limit(const float *a, const float *b, size_t n, int d, uint64_t seed, double *out,
                            struct err *e)
{
    double whole, half[N_HALVES];
    uint32_t *row = mem_array(n, sizeof *row, "the distance", e);
    bool ok = row && distance_frechet(a, n, b, n, d, &whole, e);
    assert(n >= 4);
    for (int t = 0; ok && t < N_HALVES; t++) {
        struct rng r;
        rng_init(&r, seed, RNG_METHOD, (uint64_t)t);
        rng_permutation(&r, row, (uint32_t)n);
        ok = frechet(a, n, b, row, n / 2, d, &half[t], e);
    }
    if (ok) {
        qsort(half, N_HALVES, sizeof *half, by_size);
        *out = 2 * whole - half[N_HALVES / 2];
    }
    free(row);
    return ok;
}

/* ---- kernel ---- */

static double alike(const float *a, const float *b, size_t d)
{
    double dot = 0;
    for (size_t j = 0; j < d; j++)
        dot += (double)a[j] * (double)b[j];
    dot = dot / (double)d + 1;
    return dot * dot * dot;
}

/* Sum of the kernel over all pairs, i != j where both are one list. part [n_a] is scratch. */
static double pairs(const float *a, const uint32_t *row_a, size_t n_a, const float *b, const uint32_t *row_b,
                    size_t n_b, size_t d, bool is_same, double *part)
{
    double sum = 0;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n_a; i++) {
        part[i] = 0;
        for (size_t j = 0; j < n_b; j++)
            part[i] += is_same && i == j ? 0 : alike(a + row_a[i] * d, b + row_b[j] * d, d);
    }
    for (size_t i = 0; i < n_a; i++)
        sum += part[i];
    return sum;
}

bool distance_kernel(const float *a, size_t n_a, const float *b, size_t n_b, int d, uint64_t seed,
                     struct distance_kernel *out, struct err *e)
{
    const size_t m_a = n_a < SUBSET ? n_a : SUBSET, m_b = n_b < SUBSET ? n_b : SUBSET;
    uint32_t *row = mem_array(n_a + n_b, sizeof *row, "the distance", e);
    double *part = row ? mem_array(m_a > m_b ? m_a : m_b, sizeof *part, "the distance", e) : NULL;
    double sum = 0, square = 0;
    assert(n_a >= 2 && n_b >= 2);
    for (int t = 0; part && t < N_SUBSETS; t++) {
        struct rng r;
        rng_init(&r, seed, RNG_METHOD, (uint64_t)t);
        rng_permutation(&r, row, (uint32_t)n_a);
        rng_permutation(&r, row + n_a, (uint32_t)n_b);
        const double v =
            pairs(a, row, m_a, a, row, m_a, (size_t)d, true, part) / ((double)m_a * (double)(m_a - 1)) +
            pairs(b, row + n_a, m_b, b, row + n_a, m_b, (size_t)d, true, part) /
                ((double)m_b * (double)(m_b - 1)) -
            2 * pairs(a, row, m_a, b, row + n_a, m_b, (size_t)d, false, part) / ((double)m_a * (double)m_b);
        sum += v;
        square += v * v;
    }
    out->mean = sum / N_SUBSETS;
    out->deviation = sqrt(fmax(0, (square - sum * sum / N_SUBSETS) / (N_SUBSETS - 1)));
    const bool ok = part;
    free(row);
    free(part);
    return ok;
}

/* ---- sliced ---- */

bool distance_sliced(const float *a, const float *b, size_t n, int d, int n_directions, uint64_t seed,
                     double *out, struct err *e)
{
    const size_t size = (size_t)d;
    double *square = mem_array((size_t)n_directions, sizeof *square, "the distance", e), sum = 0;
    bool ok = square;
#pragma omp parallel for schedule(dynamic, 1)
    for (int k = 0; k < (ok ? n_directions : 0); k++) {
        struct rng r;
        double *v = malloc((size + 2 * n) * sizeof *v), length = 0;
        square[k] = NAN;
        if (!v)
            continue;
        double *pa = v + size, *pb = pa + n, far = 0;
        rng_init(&r, seed, RNG_METHOD, (uint64_t)k);
        for (size_t j = 0; j < size; j++) {
            v[j] = rng_normal(&r);
            length += v[j] * v[j];
        }
        length = sqrt(length);
        for (size_t i = 0; i < n; i++) {
            pa[i] = pb[i] = 0;
            for (size_t j = 0; j < size; j++) {
                pa[i] += v[j] * (double)a[i * size + j];
                pb[i] += v[j] * (double)b[i * size + j];
            }
        }
        qsort(pa, n, sizeof *pa, by_size);
        qsort(pb, n, sizeof *pb, by_size);
        for (size_t i = 0; i < n; i++)
            far += (pa[i] - pb[i]) * (pa[i] - pb[i]);
        square[k] = far / (length * length * (double)n);
        free(v);
    }
    for (int k = 0; ok && k < n_directions; k++)
        sum += square[k];
    free(square);
    *out = sqrt(sum / n_directions);
    return ok && (isfinite(sum) || err_set(e, ERR_RESOURCE, "not enough memory for the distance"));
}

/* One level: image [size,size,c] -> what 2 x 2 means lose of it (in place), and those means [size/2,size/2,c]. */
static void split_level(float *x, int size, int c, float *half)
{
    const int small = size / 2;
    for (int y = 0; y < small; y++)
        for (int s = 0; s < small * c; s++) {
            const int col = s / c * 2 * c + s % c;
            const float *top = x + (size_t)(2 * y) * (size_t)(size * c) + col, *low = top + size * c;
            half[y * small * c + s] = (top[0] + top[c] + low[0] + low[c]) / 4;
        }
    for (int y = 0; y < size; y++)
        for (int s = 0; s < size * c; s++)
            x[y * size * c + s] -= half[y / 2 * small * c + s / c / 2 * c + s % c];
}

/* Patches of one level of n images: out [n * PATCHES, PATCH, PATCH, c]. Places are drawn by image, the same ones for
 * both sets. */
static void cut_patches(const float *x, size_t n, int size, int c, uint64_t seed, float *out)
{
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < PATCHES; k++) {
            struct rng r;
            rng_init(&r, seed, RNG_SHUFFLE, i * PATCHES + (size_t)k);
            const int top = (int)rng_below(&r, (uint32_t)(size - PATCH + 1)),
                      left = (int)rng_below(&r, (uint32_t)(size - PATCH + 1));
            for (int y = 0; y < PATCH; y++)
                memcpy(out + ((i * PATCHES + (size_t)k) * PATCH + (size_t)y) * (size_t)(PATCH * c),
                       x + (i * (size_t)size + (size_t)(top + y)) * (size_t)(size * c) + left * c,
                       (size_t)(PATCH * c) * sizeof *out);
        }
}

/* Each channel of both by mean and deviation in a. */
static void standardise(float *a, float *b, size_t n, int c)
{
    for (int ch = 0; ch < c; ch++) {
        double sum = 0, square = 0;
        for (size_t i = (size_t)ch; i < n; i += (size_t)c)
            sum += (double)a[i];
        sum /= (double)(n / (size_t)c);
        for (size_t i = (size_t)ch; i < n; i += (size_t)c)
            square += ((double)a[i] - sum) * ((double)a[i] - sum);
        square = sqrt(square / (double)(n / (size_t)c));
        const double scale = square > 0 ? 1 / square : 1;
        for (size_t i = (size_t)ch; i < n; i += (size_t)c) {
            a[i] = (float)(((double)a[i] - sum) * scale);
            b[i] = (float)(((double)b[i] - sum) * scale);
        }
    }
}

bool distance_patches(const uint8_t *a, const uint8_t *b, size_t n, int size, int c, uint64_t seed,
                      double *out, struct err *e)
{
    const size_t image = (size_t)size * (size_t)size * (size_t)c, patches = n * PATCHES,
                 patch = (size_t)PATCH * PATCH * (size_t)c;
    float *x = mem_array(2 * n, image * sizeof *x, "the distance", e);
    float *half = x ? mem_array(2 * n, image / 4 * sizeof *half, "the distance", e) : NULL;
    float *cut = half ? mem_array(2 * patches, patch * sizeof *cut, "the distance", e) : NULL;
    double sum = 0, one = 0;
    int levels = 0;
    bool ok = cut;
    assert(size >= PATCH && c >= 1);
    for (size_t i = 0; ok && i < n * image; i++) {
        x[i] = (float)a[i];
        x[n * image + i] = (float)b[i];
    }
    for (int side = size; ok && side >= PATCH; side /= 2, levels++) {
        const size_t here = (size_t)side * (size_t)side * (size_t)c;
        const bool is_last = side / 2 < PATCH || side % 2;
        for (size_t i = 0; i < 2 * n && !is_last; i++)
            split_level(x + i * here, side, c, half + i * (here / 4));
        cut_patches(x, n, side, c, seed, cut);
        cut_patches(x + n * here, n, side, c, seed, cut + patches * patch);
        standardise(cut, cut + patches * patch, patches * patch, c);
        ok = distance_sliced(cut, cut + patches * patch, patches, (int)patch, DIRECTIONS, seed, &one, e);
        sum += one;
        if (is_last) {
            levels++;
            break;
        }
        memcpy(x, half, 2 * n * (here / 4) * sizeof *x);
    }
    *out = sum / levels;
    free(x);
    free(half);
    free(cut);
    return ok;
}

/* ---- neighbours ---- */

static double squared(const float *a, const float *b, size_t d)
{
    double sum = 0;
    for (size_t j = 0; j < d; j++)
        sum += ((double)a[j] - (double)b[j]) * ((double)a[j] - (double)b[j]);
    return sum;
}

/* Squared distance of each row to its third neighbour among the others. */
static void radii(const float *x, size_t n, size_t d, double *radius)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        double near[NEIGHBOUR] = {INFINITY, INFINITY, INFINITY};
        for (size_t j = 0; j < n; j++) {
            double far = i == j ? INFINITY : squared(x + i * d, x + j * d, d);
            for (int k = 0; k < NEIGHBOUR; k++)
                if (far < near[k]) {
                    const double swap = near[k];
                    near[k] = far;
                    far = swap;
                }
        }
        radius[i] = near[NEIGHBOUR - 1];
    }
}

/* Share of rows of x inside the balls of y. */
static double inside(const float *x, size_t n_x, const float *y, size_t n_y, size_t d, const double *radius)
{
    size_t n = 0;
#pragma omp parallel for schedule(static) reduction(+ : n)
    for (size_t i = 0; i < n_x; i++)
        for (size_t j = 0; j < n_y; j++)
            if (squared(x + i * d, y + j * d, d) <= radius[j]) {
                n++;
                break;
            }
    return (double)n / (double)n_x;
}

bool distance_manifold(const float *real, size_t n_real, const float *made, size_t n_made, int d,
                       double *precision, double *recall, struct err *e)
{
    double *radius = mem_array(n_real + n_made, sizeof *radius, "the distance", e);
    assert(n_real > NEIGHBOUR && n_made > NEIGHBOUR);
    if (!radius)
        return false;
    radii(real, n_real, (size_t)d, radius);
    radii(made, n_made, (size_t)d, radius + n_real);
    *precision = inside(made, n_made, real, n_real, (size_t)d, radius);
    *recall = inside(real, n_real, made, n_made, (size_t)d, radius + n_real);
    free(radius);
    return true;
}

static double nearest(const float *x, const float *y, size_t n, size_t d)
{
    double least = INFINITY;
    for (size_t j = 0; j < n; j++)
        least = fmin(least, squared(x, y + j * d, d));
    return sqrt(least);
}

bool distance_memory(const float *made, size_t n_made, const float *learnt, const float *held, size_t n,
                     int d, double *out, struct err *e)
{
    double *ratio = mem_array(n_made, sizeof *ratio, "the distance", e);
    assert(n_made > 0 && n > 0);
    if (!ratio)
        return false;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n_made; i++) {
        const double far = nearest(made + i * (size_t)d, held, n, (size_t)d);
        ratio[i] = nearest(made + i * (size_t)d, learnt, n, (size_t)d) / fmax(far, 1e-30);
    }
    qsort(ratio, n_made, sizeof *ratio, by_size);
    *out = n_made % 2 ? ratio[n_made / 2] : (ratio[n_made / 2 - 1] + ratio[n_made / 2]) / 2;
    free(ratio);
    return true;
}
