/* SPDX-License-Identifier: Apache-2.0
 *
 * extraction.c - direct extraction as extraction.h describes it: the run over lines, the last solve, the signs.
 * Corners and jumps are extraction_search.c's.
 *
 * Limits of a run: queries and seconds are counted with every question; a line's search has a largest number of
 * intervals, and REFUSED_IN_A_ROW corners that no unit explains end the run, so that a victim of another kind (tanh,
 * more layers, answers of few digits) is told instead of searched for ever.
 *
 * The last solve adds two points beside each unit's plane to random ones, for a unit whose plane lies far out is on
 * or off at all of N(0, I), where its weights cannot be told from the linear part. */
#include "models/learn/extraction_parts.h"

#include "models/base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BARREN_LINES = 15, REFUSED_IN_A_ROW = 24, SPARE_POINTS = 20, CHECK_EVERY = 64, MAX_UNITS = 4096 };

#define LINE_REACH 30.0

void dgelsy_(const int *m, const int *n, const int *nrhs, double *a, const int *lda, double *b,
             const int *ldb, int *jpvt, const double *rcond, int *rank, double *work, const int *lwork,
             int *info);

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

struct extraction_tolerance extraction_tolerances(double quantum, double floor)
{
    if (quantum > 0)
        return (struct extraction_tolerance){.noise = quantum,
                                             .floor = floor,
                                             .step = {1, 0.3, 0.1},
                                             .n_steps = 3,
                                             .divide = {4, 16},
                                             .rank = 1e-7,
                                             .delta = 0.05,
                                             .verify = 0.05,
                                             .known = 1e-2,
                                             .same_row = 0.02,
                                             .same_bias = 0.05,
                                             .integral = 0.05};
    return (struct extraction_tolerance){.is_exact = true,
                                         .noise = 200 * 0x1p-53,
                                         .floor = floor,
                                         .step = {0.3, 0.03, 0.003, 3e-4},
                                         .n_steps = 4,
                                         .divide = {32, 512},
                                         .rank = 1e-7,
                                         .delta = 1e-3,
                                         .verify = 1e-6,
                                         .known = 1e-6,
                                         .same_row = 5e-5,
                                         .same_bias = 1e-5,
                                         .integral = 1e-6};
}

int extraction_svd_work(int k, int d)
{
    const int small = k < d ? k : d, large = k < d ? d : k;
    return 8 * (3 * small + large + 64);
}

static bool open_scratch(struct extraction_state *s, struct err *e)
{
    const size_t d = (size_t)s->oracle->d, k = (size_t)s->oracle->k, r = k < d ? k : d;
    const char *what = "the extraction";
    s->unit = mem_array(MAX_UNITS, sizeof *s->unit, what, e);
    s->x = s->unit ? mem_array(3 * d, sizeof *s->x, what, e) : NULL;
    s->y0 = s->x ? mem_array(3 * k, sizeof *s->y0, what, e) : NULL;
    s->jacobian = s->y0 ? mem_array(d * k, sizeof *s->jacobian, what, e) : NULL;
    s->svd = s->jacobian ? mem_array(r + k * r + r * d + (size_t)extraction_svd_work((int)k, (int)d),
                                     sizeof *s->svd, what, e)
                         : NULL;
    s->intervals =
        s->svd ? mem_array((EXTRACTION_MAX_DEPTH + 1) * 2 * k, sizeof *s->intervals, what, e) : NULL;
    s->gap = s->intervals ? mem_array(MAX_UNITS, sizeof *s->gap, what, e) : NULL;
    if (!s->gap)
        return false;
    s->w = s->x + d;
    s->p = s->w + d;
    s->y1 = s->y0 + k;
    s->y2 = s->y1 + k;
    return true;
}

bool extraction_state_open(struct extraction_state *s, struct err *e)
{
    s->tol = extraction_tolerances(s->o->quantum, s->o->floor);
    s->begun_s = now_s();
    rng_init(&s->rng, s->o->seed, RNG_METHOD, 0);
    return open_scratch(s, e);
}

static void unit_free(struct extraction_unit *u)
{
    free(u->row);
    memset(u, 0, sizeof *u);
}

static bool unit_alloc(struct extraction_unit *u, int d, int k, struct err *e)
{
    u->row = mem_array(2 * (size_t)d + (size_t)k, sizeof *u->row, "a unit", e);
    if (!u->row)
        return false;
    u->at = u->row + d;
    u->jump = u->at + d;
    return true;
}

void extraction_state_close(struct extraction_state *s)
{
    for (int i = 0; s->unit && i < s->n_units; i++)
        unit_free(&s->unit[i]);
    free(s->unit);
    free(s->x);
    free(s->y0);
    free(s->jacobian);
    free(s->svd);
    free(s->intervals);
    free(s->gap);
}

bool extraction_ask(struct extraction_state *s, const double *x, double *y, struct err *e)
{
    struct extraction_copy *c = s->copy;
    if (c->n_queries >= s->o->max_queries)
        return err_set(e, ERR_RESOURCE,
                       "the budget of %lld queries is spent with %d units found; allow more queries",
                       (long long)s->o->max_queries, s->n_units);
    if (c->n_queries % CHECK_EVERY == 0) {
        if (progress_stopped(s->progress))
            return err_set(e, ERR_INTERRUPTED, "stopped after %lld queries", (long long)c->n_queries);
        if (now_s() - s->begun_s > s->o->max_seconds)
            return err_set(e, ERR_RESOURCE,
                           "%.0f s are over after %lld queries with %d units found; allow more time",
                           s->o->max_seconds, (long long)c->n_queries, s->n_units);
    }
    c->n_queries++;
    if (!s->oracle->answer(s->oracle->ctx, x, y, e))
        return false;
    for (int i = 0; i < s->oracle->k; i++)
        s->largest = fmax(s->largest, fabs(y[i]));
    return true;
}

/* ---- units ---- */

static bool is_known(const struct extraction_state *s, const double *u, const double *v, double t)
{
    const int d = s->oracle->d;
    for (int i = 0; i < s->n_units; i++) {
        const struct extraction_unit *known = &s->unit[i];
        double off = known->bias + dot(known->row, u, d) + t * dot(known->row, v, d);
        if (fabs(off) < s->tol.known)
            return true;
    }
    return false;
}

static bool is_same(const struct extraction_state *s, const struct extraction_unit *a,
                    const struct extraction_unit *b)
{
    const int d = s->oracle->d;
    const double sign = dot(a->row, b->row, d) < 0 ? -1 : 1;
    double off = 0;
    for (int j = 0; j < d; j++)
        off += (a->row[j] - sign * b->row[j]) * (a->row[j] - sign * b->row[j]);
    return sqrt(off) < s->tol.same_row &&
           fabs(a->bias - sign * b->bias) < s->tol.same_bias * (1 + fabs(a->bias));
}

static int by_low(const void *pa, const void *pb)
{
    const double a = ((const struct extraction_gap *)pa)->low, b = ((const struct extraction_gap *)pb)->low;
    return (a > b) - (a < b);
}

/* Corners between those of known units, which need no search. */
static bool search_between(struct extraction_state *s, const double *u, const double *v, int *n,
                           struct err *e)
{
    const int d = s->oracle->d;
    int n_gaps = 0;
    double from = -LINE_REACH;
    *n = 0;
    for (int i = 0; i < s->n_units; i++) {
        const double slope = dot(s->unit[i].row, v, d), off = s->unit[i].bias + dot(s->unit[i].row, u, d);
        const double reach = s->tol.known / fabs(slope);
        if (fabs(off) < LINE_REACH * fabs(slope))
            s->gap[n_gaps++] = (struct extraction_gap){-off / slope - reach, -off / slope + reach};
    }
    qsort(s->gap, (size_t)n_gaps, sizeof *s->gap, by_low);
    for (int i = 0; i < n_gaps; i++) {
        if (s->gap[i].low > from && !extraction_corners(s, u, v, from, s->gap[i].low, n, e))
            return false;
        from = fmax(from, s->gap[i].high);
    }
    return from >= LINE_REACH || extraction_corners(s, u, v, from, LINE_REACH, n, e);
}

/* One line's corners. *n_new: units it added. */
static bool search_line(struct extraction_state *s, const double *u, const double *v, int *n_new,
                        int *n_in_a_row, struct err *e)
{
    const int d = s->oracle->d;
    int n;
    *n_new = 0;
    if (!search_between(s, u, v, &n, e))
        return false;
    for (int i = 0; i < n && (s->o->h == 0 || s->n_units < s->o->h); i++) {
        struct extraction_unit fresh = {0};
        bool found, is_new = true;
        if (is_known(s, u, v, s->corner[i])) {
            *n_in_a_row = 0;
            continue;
        }
        if (!unit_alloc(&fresh, d, s->oracle->k, e) ||
            !extraction_measure(s, u, v, s->corner[i], &fresh, &found, e)) {
            unit_free(&fresh);
            return false;
        }
        for (int j = 0; found && j < s->n_units; j++)
            is_new = is_new && !is_same(s, &fresh, &s->unit[j]);
        *n_in_a_row = found ? 0 : *n_in_a_row + 1;
        s->copy->n_refused += !found;
        if (found && is_new && s->n_units < MAX_UNITS) {
            s->unit[s->n_units++] = fresh;
            s->copy->n_found = s->n_units;
            ++*n_new;
        } else
            unit_free(&fresh);
        if (*n_in_a_row >= REFUSED_IN_A_ROW)
            return extraction_refuse(e);
    }
    return true;
}

static bool find_units(struct extraction_state *s, struct err *e)
{
    const int d = s->oracle->d;
    double *u = mem_array(2 * (size_t)d, sizeof *u, "a line", e), *v = u ? u + d : NULL;
    int barren = 0, n_new, in_a_row = 0;
    bool ok = u != NULL;
    while (ok && (s->o->h > 0 ? s->n_units < s->o->h : barren < BARREN_LINES)) {
        struct rng r;
        double length;
        rng_init(&r, s->o->seed, RNG_QUERY, (uint64_t)s->copy->n_lines);
        for (int j = 0; j < d; j++)
            u[j] = rng_normal(&r);
        for (int j = 0; j < d; j++)
            v[j] = rng_normal(&r);
        length = sqrt(dot(v, v, d));
        for (int j = 0; j < d; j++)
            v[j] /= length;
        ok = search_line(s, u, v, &n_new, &in_a_row, e);
        s->copy->n_lines++;
        barren = n_new > 0 ? 0 : barren + 1;
        progress_report(s->progress, "extract", s->n_units,
                        s->o->h > 0 ? s->o->h : s->n_units + BARREN_LINES - barren, NULL);
    }
    free(u);
    return ok;
}

/* ---- the last solve ---- */

bool extraction_least_squares(double *a, double *b, int n, int p, int q, double condition, int *rank,
                              struct err *e)
{
    const int ld = n > p ? n : p;
    int n_work = -1, info = 0;
    double want = 0;
    int *pivot = mem_array((size_t)p, sizeof *pivot, "the least squares", e);
    double *work = NULL;
    bool ok = false;
    if (!pivot)
        goto out;
    dgelsy_(&n, &p, &q, a, &n, b, &ld, pivot, &condition, rank, &want, &n_work, &info);
    n_work = (int)want + 1;
    work = mem_array((size_t)n_work, sizeof *work, "the least squares", e);
    if (!work)
        goto out;
    dgelsy_(&n, &p, &q, a, &n, b, &ld, pivot, &condition, rank, work, &n_work, &info);
    ok = info == 0 || err_set(e, ERR_RUNTIME, "LAPACK's least squares failed (dgelsy: %d)", info);
out:
    free(work);
    free(pivot);
    return ok;
}

/* Points and what was answered there. */
struct samples {
    int n;
    double *x, *y; /* [n,d], [n,k] */
};

static bool ask_samples(struct extraction_state *s, struct samples *a, struct err *e)
{
    const int d = s->oracle->d, k = s->oracle->k, m = s->n_units;
    const int n_random = (d + 1 + m + SPARE_POINTS) * (s->tol.is_exact ? 1 : 4);
    struct rng r;
    a->n = n_random + 2 * m;
    a->x = mem_array((size_t)a->n, (size_t)d * sizeof *a->x, "the last solve", e);
    a->y = a->x ? mem_array((size_t)a->n, (size_t)k * sizeof *a->y, "the last solve", e) : NULL;
    if (!a->y)
        return false;
    rng_init(&r, s->o->seed, RNG_SHUFFLE, 0);
    for (int i = 0; i < a->n; i++) {
        double *x = a->x + (size_t)i * (size_t)d;
        const struct extraction_unit *u = i < n_random ? NULL : &s->unit[(i - n_random) / 2];
        const double side = (i - n_random) % 2 ? 1 : -1;
        for (int j = 0; j < d; j++)
            x[j] = u ? u->at[j] + side * u->row[j] : rng_normal(&r);
        if (!extraction_ask(s, x, a->y + (size_t)i * (size_t)k, e))
            return false;
    }
    return true;
}

/* Regresses the answers on [relu(z), x when has_linear, 1] and fills the copy's upper layer. */
static bool solve(const struct samples *a, struct extraction_copy *c, bool has_linear, bool is_exact,
                  struct err *e)
{
    const int n = a->n, d = c->d, k = c->k, m = c->m, p = m + (has_linear ? d : 0) + 1;
    int rank;
    double *f = mem_array((size_t)n, (size_t)p * sizeof *f, "the last solve", e);
    double *b = f ? mem_array((size_t)(n > p ? n : p), (size_t)k * sizeof *b, "the last solve", e) : NULL;
    const int ld = n > p ? n : p;
    bool ok = b != NULL;
    for (int i = 0; ok && i < n; i++) {
        const double *x = a->x + (size_t)i * (size_t)d;
        for (int u = 0; u < m; u++)
            f[(size_t)u * (size_t)n + (size_t)i] =
                fmax(0, dot(c->row + (size_t)u * (size_t)d, x, d) + c->bias[u]);
        for (int j = 0; has_linear && j < d; j++)
            f[(size_t)(m + j) * (size_t)n + (size_t)i] = x[j];
        f[(size_t)(p - 1) * (size_t)n + (size_t)i] = 1;
        for (int o = 0; o < k; o++)
            b[(size_t)o * (size_t)ld + (size_t)i] = a->y[(size_t)i * (size_t)k + (size_t)o];
    }
    ok = ok && extraction_least_squares(f, b, n, p, k, is_exact ? 1e-13 : 1e-8, &rank, e);
    for (int o = 0; ok && o < k; o++) {
        const double *z = b + (size_t)o * (size_t)ld;
        for (int u = 0; u < m; u++)
            c->top[(size_t)o * (size_t)m + (size_t)u] = z[u];
        for (int j = 0; j < d; j++)
            c->linear[(size_t)o * (size_t)d + (size_t)j] = has_linear ? z[m + j] : 0;
        c->constant[o] = z[p - 1];
    }
    free(f);
    free(b);
    return ok;
}

bool extraction_signs(const double *row, const double *top, const double *linear, int d, int k, int m,
                      double integral, int *flip)
{
    const int n = d * k;
    int rank = 0;
    struct err ignored;
    if (m > n || m == 0)
        return m == 0;
    double *a = mem_array((size_t)n, (size_t)m * sizeof *a, "the signs", &ignored);
    double *b = a ? mem_array((size_t)n, sizeof *b, "the signs", &ignored) : NULL;
    bool ok = b != NULL;
    for (int i = 0; ok && i < n; i++) {
        const int o = i / d, j = i % d;
        for (int u = 0; u < m; u++)
            a[(size_t)u * (size_t)n + (size_t)i] = -top[o * m + u] * row[u * d + j];
        b[i] = linear[o * d + j];
    }
    ok = ok && extraction_least_squares(a, b, n, m, 1, 1e-12, &rank, &ignored) && rank == m;
    for (int u = 0; ok && u < m; u++) {
        flip[u] = b[u] > 0.5;
        ok = fabs(b[u] - flip[u]) <= integral;
    }
    free(a);
    free(b);
    return ok;
}

static double worst_miss(const struct samples *a, const struct extraction_copy *c, double *y)
{
    double worst = 0;
    for (int i = 0; i < a->n; i++) {
        extraction_copy_answer(c, a->x + (size_t)i * (size_t)c->d, y);
        for (int o = 0; o < c->k; o++)
            worst = fmax(worst, fabs(y[o] - a->y[(size_t)i * (size_t)c->k + (size_t)o]));
    }
    return worst;
}

/* Turns rows the right way round where the linear part tells; else the skip form stays as it is. */
static bool settle_signs(struct extraction_state *s, const struct samples *a, struct err *e)
{
    struct extraction_copy *c = s->copy;
    const size_t d = (size_t)c->d, k = (size_t)c->k, m = (size_t)c->m, n_upper = k * m + k * d + k;
    int *flip = mem_array(m, sizeof *flip, "the signs", e);
    double *keep = flip ? mem_array(n_upper, sizeof *keep, "the signs", e) : NULL;
    bool ok = keep != NULL;
    if (ok && extraction_signs(c->row, c->top, c->linear, c->d, c->k, c->m, s->tol.integral, flip)) {
        memcpy(keep, c->top, n_upper * sizeof *keep); /* top, linear and constant are one block */
        for (int back = 0; ok && back < 2; back++) {
            for (size_t u = 0; u < m; u++) {
                for (size_t j = 0; flip[u] && j < d; j++)
                    c->row[u * d + j] = -c->row[u * d + j];
                c->bias[u] = flip[u] ? -c->bias[u] : c->bias[u];
            }
            if (back == 1) {
                memcpy(c->top, keep, n_upper * sizeof *keep);
                break;
            }
            ok = solve(a, c, false, s->tol.is_exact, e);
            const double miss = ok ? worst_miss(a, c, s->y0) : 0;
            c->is_signed = ok && miss <= fmax(1e3 * c->residual, 1e-9 * fmax(1, s->largest));
            if (c->is_signed) {
                c->residual = miss;
                break;
            }
        }
    }
    free(flip);
    free(keep);
    return ok;
}

static bool copy_alloc(struct extraction_copy *c, int d, int k, int m, struct err *e)
{
    const size_t n_lower = (size_t)m * ((size_t)d + 1), n_upper = (size_t)k * ((size_t)m + (size_t)d + 1);
    c->d = d;
    c->k = k;
    c->m = m;
    c->row = mem_array(n_lower + n_upper, sizeof *c->row, "the copy", e);
    if (!c->row)
        return false;
    c->bias = c->row + (size_t)m * (size_t)d;
    c->top = c->bias + m;
    c->linear = c->top + (size_t)k * (size_t)m;
    c->constant = c->linear + (size_t)k * (size_t)d;
    return true;
}

void extraction_copy_free(struct extraction_copy *c)
{
    free(c->row);
    memset(c, 0, sizeof *c);
}

void extraction_copy_answer(const struct extraction_copy *c, const double *x, double *y)
{
    for (int o = 0; o < c->k; o++)
        y[o] = c->constant[o] + dot(c->linear + (size_t)o * (size_t)c->d, x, c->d);
    for (int u = 0; u < c->m; u++) {
        const double z = dot(c->row + (size_t)u * (size_t)c->d, x, c->d) + c->bias[u];
        for (int o = 0; z > 0 && o < c->k; o++)
            y[o] += c->top[(size_t)o * (size_t)c->m + (size_t)u] * z;
    }
}

static bool finish(struct extraction_state *s, struct err *e)
{
    struct extraction_copy *c = s->copy;
    const int d = s->oracle->d;
    struct samples a = {0};
    bool ok = copy_alloc(c, d, s->oracle->k, s->n_units, e);
    for (int u = 0; ok && u < c->m; u++) {
        memcpy(c->row + (size_t)u * (size_t)d, s->unit[u].row, (size_t)d * sizeof *c->row);
        c->bias[u] = s->unit[u].bias;
    }
    ok = ok && ask_samples(s, &a, e) && solve(&a, c, true, s->tol.is_exact, e);
    if (ok) {
        c->residual = worst_miss(&a, c, s->y0);
        if (s->tol.is_exact && c->residual > 1e-5 * fmax(1, s->largest))
            ok = err_set(
                e, ERR_INPUT,
                "the %d units found do not explain the answers (they miss by up to %.2g): the victim has "
                "more than one layer of ReLU units, or units that no line of %d crossed",
                c->m, c->residual, c->n_lines);
    }
    ok = ok && settle_signs(s, &a, e);
    free(a.x);
    free(a.y);
    return ok;
}

bool extraction_run(const struct extraction_oracle *oracle, const struct extraction_options *o,
                    struct extraction_copy *copy, const struct progress *progress, struct err *e)
{
    bool ok = false;
    memset(copy, 0, sizeof *copy);
    if (oracle->d < 1 || oracle->k < 1 || oracle->d > 100000 || oracle->k > 1000 || o->h < 0 ||
        o->h > MAX_UNITS)
        return err_set(e, ERR_USAGE,
                       "an extraction takes 1 to 100000 inputs, 1 to 1000 outputs and up to %d units",
                       MAX_UNITS);
    if (o->max_queries < 1 || !(o->max_seconds > 0))
        return err_set(e, ERR_USAGE, "an extraction needs a budget of queries and of seconds, both above 0");
    struct extraction_state *s = mem_array(1, sizeof *s, "the extraction", e);
    if (!s)
        return false;
    s->oracle = oracle;
    s->o = o;
    s->copy = copy;
    s->progress = progress;
    ok = extraction_state_open(s, e) && find_units(s, e) && finish(s, e);
    copy->seconds = now_s() - s->begun_s;
    extraction_state_close(s);
    free(s);
    return ok;
}
