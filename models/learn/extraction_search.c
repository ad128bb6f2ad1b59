/* SPDX-License-Identifier: Apache-2.0
 *
 * extraction_search.c - corners of a piecewise linear function along a line, and the jump of its Jacobian there
 * (extraction.h, steps 1 and 2).
 *
 * An interval [a, b] of length L is asked at a, a+L/4, the middle, b-L/4 and b. All on one line within noise: no
 * corner. Else the two end quarters' lines meet at t; one corner sits there when t lies strictly inside the middle
 * half and the answer at t is that of both lines. The margin of L/1000 matters: with a corner inside an end quarter
 * the lines meet exactly at the quarter point, where the answer fits by construction. Everything else is cut near its
 * middle, at random, so that no corner sits on a cut for ever. */
#include "models/learn/extraction_parts.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { MAX_EXAMINED = 30000, N_INNER = 3 };

#define SHORTEST 1e-7

/* LAPACK, from OpenBLAS; the two lengths at the end are those of the character arguments. */
void dgesvd_(const char *jobu, const char *jobvt, const int *m, const int *n, double *a, const int *lda,
             double *s, double *u, const int *ldu, double *vt, const int *ldvt, double *work,
             const int *lwork, int *info, size_t length_u, size_t length_vt);

struct interval {
    double a, b;
    const double *at_a, *at_b; /* answers [k] */
};

static double largest_of(const double *y, int k, double so_far)
{
    for (int i = 0; i < k; i++)
        so_far = fmax(so_far, fabs(y[i]));
    return so_far;
}

/* What the answers of one interval say. */
struct look {
    double noise, corner;
    bool is_straight, is_corner;
};

static bool ask_at(struct extraction_state *s, const double *u, const double *v, double t, double *y,
                   struct err *e)
{
    for (int j = 0; j < s->oracle->d; j++)
        s->x[j] = u[j] + t * v[j];
    return extraction_ask(s, s->x, y, e);
}

static bool examine(struct extraction_state *s, const double *u, const double *v, const struct interval *i,
                    struct look *l, struct err *e)
{
    const int k = s->oracle->k;
    const double length = i->b - i->a,
                 t[N_INNER] = {i->a + 0.25 * length, i->a + 0.5 * length, i->b - 0.25 * length};
    double *inner[N_INNER] = {s->y0, s->y1, s->y2}, top = s->tol.floor;
    *l = (struct look){.is_straight = true};
    top = largest_of(i->at_a, k, largest_of(i->at_b, k, top));
    for (int q = 0; q < N_INNER; q++) {
        if (!ask_at(s, u, v, t[q], inner[q], e))
            return false;
        top = largest_of(inner[q], k, top);
    }
    l->noise = s->tol.noise * top;
    for (int q = 0; q < N_INNER; q++)
        for (int c = 0; c < k; c++) {
            double share = (t[q] - i->a) / length;
            double straight = i->at_a[c] + share * (i->at_b[c] - i->at_a[c]);
            l->is_straight = l->is_straight && fabs(inner[q][c] - straight) <= l->noise;
        }
    if (l->is_straight)
        return true;
    double above = 0, below = 0;
    for (int c = 0; c < k; c++) {
        double m_a = (inner[0][c] - i->at_a[c]) / (t[0] - i->a),
               m_b = (i->at_b[c] - inner[2][c]) / (i->b - t[2]);
        double w = m_a - m_b;
        above += w * (i->at_b[c] - i->at_a[c] - length * m_b);
        below += w * w;
    }
    l->corner = i->a + (below > 0 ? above / below : -1);
    if (!(l->corner > t[0] + length / 1000 && l->corner < t[2] - length / 1000))
        return true;
    double *y = s->jacobian; /* free here */
    if (!ask_at(s, u, v, l->corner, y, e))
        return false;
    l->is_corner = true;
    for (int c = 0; c < k; c++) {
        double m_a = (inner[0][c] - i->at_a[c]) / (t[0] - i->a),
               m_b = (i->at_b[c] - inner[2][c]) / (i->b - t[2]);
        double from_a = i->at_a[c] + m_a * (l->corner - i->a), from_b = i->at_b[c] + m_b * (l->corner - i->b);
        l->is_corner =
            l->is_corner && fabs(y[c] - from_a) <= 8 * l->noise && fabs(y[c] - from_b) <= 8 * l->noise;
    }
    return true;
}

bool extraction_refuse(struct err *e)
{
    return err_set(
        e, ERR_INPUT,
        "the answers bend where no corner of a unit can be confirmed: the victim is no network of one "
        "layer of ReLU units, or its answers are rounded too coarsely for this attack");
}

/* Puts an interval on the stack, with copies of its answers in the slot that goes with its place. */
static void push(struct extraction_state *s, struct interval *stack, int *depth, double a, double b,
                 const double *at_a, const double *at_b)
{
    const size_t k = (size_t)s->oracle->k;
    double *slot = s->intervals + (size_t)*depth * 2 * k;
    memcpy(slot, at_a, k * sizeof *slot);
    memcpy(slot + k, at_b, k * sizeof *slot);
    stack[(*depth)++] = (struct interval){a, b, slot, slot + k};
}

bool extraction_corners(struct extraction_state *s, const double *u, const double *v, double low, double high,
                        int *n, struct err *e)
{
    const size_t k = (size_t)s->oracle->k;
    struct interval stack[EXTRACTION_MAX_DEPTH];
    double *mine = s->intervals + (size_t)EXTRACTION_MAX_DEPTH * 2 * k;
    int depth = 0, examined = 0;
    if (!ask_at(s, u, v, low, s->y0, e) || !ask_at(s, u, v, high, s->y1, e))
        return false;
    push(s, stack, &depth, low, high, s->y0, s->y1);
    while (depth > 0) {
        struct interval i = stack[--depth];
        struct look l;
        memcpy(mine, i.at_a, 2 * k * sizeof *mine); /* its slot is the next one's */
        i.at_a = mine;
        i.at_b = mine + k;
        if (!examine(s, u, v, &i, &l, e))
            return false;
        if (++examined > MAX_EXAMINED)
            return extraction_refuse(e);
        if (l.is_straight || i.b - i.a < SHORTEST)
            continue;
        if (l.is_corner) {
            if (*n == EXTRACTION_MAX_CORNERS)
                return extraction_refuse(e);
            s->corner[(*n)++] = l.corner;
            continue;
        }
        assert(depth + 2 <= EXTRACTION_MAX_DEPTH); /* each cut leaves at most 55 %: SHORTEST comes first */
        const double cut = i.a + (i.b - i.a) * (0.45 + 0.1 * rng_uniform(&s->rng));
        if (!ask_at(s, u, v, cut, s->y0, e))
            return false;
        push(s, stack, &depth, cut, i.b, s->y0, i.at_b);
        push(s, stack, &depth, i.a, cut, i.at_a, s->y0);
    }
    return true;
}

/* ---- jumps ---- */

/* Forward differences at x + side along v, step `step` (its sign the side's): the Jacobian times sign is added. */
static bool add_jacobian(struct extraction_state *s, const double *x, const double *v, double side,
                         double step, double sign, struct err *e)
{
    const int d = s->oracle->d, k = s->oracle->k;
    for (int j = 0; j < d; j++)
        s->p[j] = x[j] + side * v[j];
    if (!extraction_ask(s, s->p, s->y0, e))
        return false;
    for (int j = 0; j < d; j++) {
        const double keep = s->p[j], moved = keep + step;
        s->p[j] = moved;
        if (!extraction_ask(s, s->p, s->y1, e))
            return false;
        for (int c = 0; c < k; c++)
            s->jacobian[j * k + c] += sign * (s->y1[c] - s->y0[c]) / (moved - keep);
        s->p[j] = keep;
    }
    return true;
}

/* First singular pair of the [k,d] jump: values -> row [d] of length 1, jump [k] = sigma u. *second: the next
 * singular value. */
static bool first_pair(struct extraction_state *s, double *row, double *jump, double *second, struct err *e)
{
    const int k = s->oracle->k, d = s->oracle->d, r = k < d ? k : d, n_work = extraction_svd_work(k, d);
    double *sigma = s->svd, *u = sigma + r, *vt = u + (size_t)k * (size_t)r,
           *work = vt + (size_t)r * (size_t)d;
    int info = 0;
    dgesvd_("S", "S", &k, &d, s->jacobian, &k, sigma, u, &k, vt, &r, work, &n_work, &info, 1, 1);
    if (info != 0)
        return err_set(e, ERR_RUNTIME, "LAPACK's singular values did not converge (dgesvd: %d)", info);
    for (int j = 0; j < d; j++)
        row[j] = vt[j * r];
    for (int c = 0; c < k; c++)
        jump[c] = sigma[0] * u[c];
    *second = r > 1 ? sigma[1] : 0;
    return true;
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Three points of the predicted plane, away from x: across each the outputs must bend by what the unit says. */
static bool is_confirmed(struct extraction_state *s, const double *x, const struct extraction_unit *unit,
                         bool *yes, struct err *e)
{
    enum { N_POINTS = 3 };
    const int d = s->oracle->d, k = s->oracle->k;
    const double delta = s->tol.delta, size = sqrt(dot(unit->jump, unit->jump, k));
    *yes = true;
    for (int point = 0; *yes && point < N_POINTS; point++) {
        for (int j = 0; j < d; j++)
            s->w[j] = rng_normal(&s->rng);
        const double out = dot(s->w, unit->row, d);
        for (int j = 0; j < d; j++)
            s->w[j] -= out * unit->row[j];
        const double length = sqrt(dot(s->w, s->w, d));
        for (int side = -1; side <= 1; side++) {
            for (int j = 0; j < d; j++)
                s->p[j] = x[j] + (length > 0 ? 0.3 * s->w[j] / length : 0) + side * delta * unit->row[j];
            if (!extraction_ask(s, s->p, side < 0 ? s->y0 : side == 0 ? s->y1 : s->y2, e))
                return false;
        }
        for (int c = 0; c < k; c++)
            *yes = *yes &&
                   fabs((s->y0[c] + s->y2[c] - 2 * s->y1[c]) / delta - unit->jump[c]) <= s->tol.verify * size;
    }
    return true;
}

bool extraction_measure(struct extraction_state *s, const double *u, const double *v, double t,
                        struct extraction_unit *unit, bool *found, struct err *e)
{
    const int d = s->oracle->d, k = s->oracle->k;
    *found = false;
    for (int j = 0; j < d; j++)
        unit->at[j] = u[j] + t * v[j];
    for (int i = 0; i < 2 * s->tol.n_steps; i++) {
        const double side = s->tol.step[i / 2], step = side / s->tol.divide[i % 2];
        double second = 0;
        memset(s->jacobian, 0, (size_t)d * (size_t)k * sizeof *s->jacobian);
        if (!add_jacobian(s, unit->at, v, side, step, 1, e) ||
            !add_jacobian(s, unit->at, v, -side, -step, -1, e) ||
            !first_pair(s, unit->row, unit->jump, &second, e))
            return false;
        const double first = sqrt(dot(unit->jump, unit->jump, k));
        const double noise =
            s->tol.is_exact ? 0 : 4 * s->tol.noise * fmax(s->tol.floor, s->largest) * sqrt(d) / step;
        if (!(first > 0) || second > s->tol.rank * first + noise)
            continue;
        /* J = sign(a v) alpha a^T: what bends upwards is sign(row v) jump, whatever sign the pair came with. */
        if (dot(unit->row, v, d) < 0)
            for (int c = 0; c < k; c++)
                unit->jump[c] = -unit->jump[c];
        unit->bias = -dot(unit->row, unit->at, d);
        if (!is_confirmed(s, unit->at, unit, found, e))
            return false;
        if (*found)
            return true;
    }
    return true;
}
