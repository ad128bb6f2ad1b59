/* SPDX-License-Identifier: Apache-2.0
 *
 * unet_ops.c - the small layers of a denoiser, forward and backward: time and class features, group norm (Wu
 * & He, ECCV 2018) with scale and shift from the time, swish, resampling, concatenation, sum. One image is one
 * thread's; what is summed over images is kept per image and added in their order. */
#include "models/net/unet_parts.h"

#include <math.h>
#include <string.h>

/* exp(-x) for the logistic function. The float build's own, because a call into libm would keep the loops
 * around it from being vectorised: Cody-Waite reduction to |r| <= ln2/2, Taylor to degree 6, error 2 ulp. */
static inline unet_real exp_minus(unet_real x)
{
#ifdef UNET_DOUBLE
    return exp(-x);
#else
    x = -x;
    x = x < -80.0f ? -80.0f : x > 80.0f ? 80.0f : x;
    const float k = x * 1.44269504f + 12582912.0f - 12582912.0f; /* nearest whole number */
    const float r = x - k * 0.693359375f + k * 2.12194440e-4f;
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const union {
        int32_t i;
        float f;
    } power = {.i = ((int32_t)k + 127) * (1 << 23)};
    return p * power.f;
#endif
}

static inline unet_real swish(unet_real x)
{
    return x / (1 + exp_minus(x));
}

static inline unet_real swish_slope(unet_real x)
{
    const unet_real s = 1 / (1 + exp_minus(x));
    return s * (1 + x * (1 - s));
}

/* Half sines, half cosines. The U-Net: of 1000 times the angle's share of a right angle, at frequencies from 1
 * down to 1/10000. Points: octaves of the angle itself. */
static void time_forward(const struct unet *u, const struct unet_node *o, int n)
{
    const int half = o->c / 2;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < half; k++) {
            double v = u->angle[i];
            if (u->config.kind == UNET_POINTS)
                v = ldexp(v, k);
            else
                v = 1000 * v / (3.14159265358979323846 / 2) *
                    exp(-log(10000.0) * k / (half > 1 ? half - 1 : 1));
            o->y[(size_t)i * o->c + k] = (unet_real)sin(v);
            o->y[(size_t)i * o->c + half + k] = (unet_real)cos(v);
        }
}

static void class_forward(const struct unet *u, const struct unet_node *o, const unet_real *values, int n)
{
    const unet_real *table = values + u->tensors[o->kernel].start, *bias = values + u->tensors[o->bias].start;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < o->c; k++)
            o->y[(size_t)i * o->c + k] =
                bias[k] + (u->label[i] < 0 ? 0 : table[(size_t)u->label[i] * o->c + k]);
}

static void class_backward(const struct unet *u, const struct unet_node *o, unet_real *grads, int n)
{
    unet_real *table = grads + u->tensors[o->kernel].start, *bias = grads + u->tensors[o->bias].start;
    memset(table, 0, u->tensors[o->kernel].count * sizeof *table);
    memset(bias, 0, (size_t)o->c * sizeof *bias);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < o->c; k++) {
            const unet_real g = o->g[(size_t)i * o->c + k];
            bias[k] += g;
            if (u->label[i] >= 0)
                table[(size_t)u->label[i] * o->c + k] += g;
        }
}

/* What group norm, affine and modulation make of a normalised value: factor * xhat + offset. */
struct affine {
    const unet_real *gamma, *beta, *scale, *shift; /* scale and shift NULL: none */
};

static struct affine affine_of(const struct unet *u, const struct unet_node *o, const unet_real *values,
                               int i)
{
    struct affine f = {values + u->tensors[o->kernel].start, values + u->tensors[o->bias].start, NULL, NULL};
    if (o->b >= 0) {
        f.scale = u->nodes[o->b].y + (size_t)i * 2 * o->c;
        f.shift = f.scale + o->c;
    }
    return f;
}

static inline unet_real factor_of(const struct affine *f, int c)
{
    return f->scale ? f->gamma[c] * (1 + f->scale[c]) : f->gamma[c];
}

static inline unet_real offset_of(const struct affine *f, int c)
{
    return f->scale ? f->beta[c] * (1 + f->scale[c]) + f->shift[c] : f->beta[c];
}

static void norm_image(const struct unet *u, const struct unet_node *o, const unet_real *values, int i)
{
    const int groups = u->config.groups, width = o->c / groups, pixels = o->h * o->w;
    const unet_real *x = u->nodes[o->a].y + (size_t)i * pixels * o->c;
    unet_real *y = o->y + (size_t)i * pixels * o->c, *kept = o->aux + (size_t)i * 2 * groups;
    const struct affine f = affine_of(u, o, values, i);
    for (int g = 0; g < groups; g++) {
        double sum = 0, square = 0;
        for (int p = 0; p < pixels; p++)
            for (int c = g * width; c < (g + 1) * width; c++)
                sum += (double)x[(size_t)p * o->c + c];
        const double mean = sum / ((double)pixels * width);
        for (int p = 0; p < pixels; p++)
            for (int c = g * width; c < (g + 1) * width; c++) {
                const double d = (double)x[(size_t)p * o->c + c] - mean;
                square += d * d;
            }
        kept[2 * g] = (unet_real)mean;
        kept[2 * g + 1] = (unet_real)(1 / sqrt(square / ((double)pixels * width) + UNET_NORM_EPS));
    }
    /* the backward's own buffer holds one factor and offset a channel meanwhile */
    unet_real *slope = o->part + (size_t)i * 2 * o->c, *level = slope + o->c;
    for (int c = 0; c < o->c; c++) {
        const int g = c / width;
        slope[c] = factor_of(&f, c) * kept[2 * g + 1];
        level[c] = offset_of(&f, c) - slope[c] * kept[2 * g];
    }
    for (int p = 0; p < pixels; p++) {
        const unet_real *from = x + (size_t)p * o->c;
        unet_real *to = y + (size_t)p * o->c;
        if (o->swish) {
#pragma omp simd
            for (int c = 0; c < o->c; c++)
                to[c] = swish(slope[c] * from[c] + level[c]);
        } else {
#pragma omp simd
            for (int c = 0; c < o->c; c++)
                to[c] = slope[c] * from[c] + level[c];
        }
    }
}

/* With u = A xhat + B per channel, P = sum du xhat, Q = sum du over the image's pixels:
 *   dgamma = (1+s) P, dbeta = (1+s) Q, ds = gamma P + beta Q, dshift = Q,
 *   dx = inv (A du - mean_group(A du) - xhat mean_group(A du xhat)).
 * P and Q stay in part for the sum over images. */
static void norm_image_backward(const struct unet *u, const struct unet_node *o, const unet_real *values,
                                int i)
{
    const int groups = u->config.groups, width = o->c / groups, pixels = o->h * o->w;
    const struct unet_node *in = &u->nodes[o->a];
    const size_t at = (size_t)i * pixels * o->c;
    const unet_real *x = in->y + at, *kept = o->aux + (size_t)i * 2 * groups;
    unet_real *g = o->g + at, *dx = in->g + at, *sum_x = o->part + (size_t)i * 2 * o->c, *sum = sum_x + o->c;
    const struct affine f = affine_of(u, o, values, i);
    for (int k = 0; k < groups; k++) {
        const unet_real mean = kept[2 * k], inv = kept[2 * k + 1];
        double group = 0, group_x = 0;
        for (int c = k * width; c < (k + 1) * width; c++) {
            const unet_real factor = factor_of(&f, c), offset = offset_of(&f, c);
            double s = 0, sx = 0;
            for (int p = 0; p < pixels; p++) {
                const unet_real hat = (x[(size_t)p * o->c + c] - mean) * inv;
                unet_real *du = &g[(size_t)p * o->c + c];
                if (o->swish)
                    *du *= swish_slope(factor * hat + offset);
                s += (double)*du;
                sx += (double)(*du * hat);
            }
            sum[c] = (unet_real)s;
            sum_x[c] = (unet_real)sx;
            group += (double)factor * s;
            group_x += (double)factor * sx;
        }
        group /= (double)pixels * width;
        group_x /= (double)pixels * width;
        for (int p = 0; p < pixels && in->needs_grad; p++)
            for (int c = k * width; c < (k + 1) * width; c++) {
                const size_t q = (size_t)p * o->c + c;
                const unet_real hat = (x[q] - mean) * inv;
                dx[q] += inv * (factor_of(&f, c) * g[q] - (unet_real)group - hat * (unet_real)group_x);
            }
    }
    if (o->b >= 0) {
        unet_real *ds = u->nodes[o->b].g + (size_t)i * 2 * o->c;
        for (int c = 0; c < o->c; c++) {
            ds[c] += f.gamma[c] * sum_x[c] + f.beta[c] * sum[c];
            ds[o->c + c] += sum[c];
        }
    }
}

static void norm_backward(const struct unet *u, const struct unet_node *o, const unet_real *values,
                          unet_real *grads, int n)
{
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        norm_image_backward(u, o, values, i);
    unet_real *dgamma = grads + u->tensors[o->kernel].start, *dbeta = grads + u->tensors[o->bias].start;
    for (int c = 0; c < o->c; c++) {
        double s = 0, sx = 0;
        for (int i = 0; i < n; i++) {
            const struct affine f = affine_of(u, o, values, i);
            const double scale = f.scale ? 1 + (double)f.scale[c] : 1;
            sx += scale * (double)o->part[(size_t)i * 2 * o->c + c];
            s += scale * (double)o->part[(size_t)i * 2 * o->c + o->c + c];
        }
        dgamma[c] = (unet_real)sx;
        dbeta[c] = (unet_real)s;
    }
}

static void down_image(const struct unet_node *o, const unet_real *x, unet_real *y)
{
    const size_t row = (size_t)2 * o->w * o->c;
    for (int r = 0; r < o->h; r++)
        for (int s = 0; s < o->w; s++) {
            const unet_real *from = x + 2 * (size_t)r * row + 2 * (size_t)s * o->c;
            unet_real *to = y + ((size_t)r * o->w + s) * o->c;
            for (int c = 0; c < o->c; c++)
                to[c] = (unet_real)0.25 * (from[c] + from[o->c + c] + from[row + c] + from[row + o->c + c]);
        }
}

/* y += weight times x, each pixel of x four times; o gives the size of x. */
static void spread_image(const struct unet_node *o, const unet_real *x, unet_real weight, unet_real *y)
{
    const size_t row = (size_t)2 * o->w * o->c;
    for (int r = 0; r < 2 * o->h; r++)
        for (int s = 0; s < 2 * o->w; s++) {
            const unet_real *from = x + ((size_t)(r / 2) * o->w + s / 2) * o->c;
            unet_real *to = y + (size_t)r * row + (size_t)s * o->c;
            for (int c = 0; c < o->c; c++)
                to[c] += weight * from[c];
        }
}

static void up_image_backward(const struct unet_node *in, const unet_real *g, unet_real *dx)
{
    const size_t row = (size_t)2 * in->w * in->c;
    for (int r = 0; r < in->h; r++)
        for (int s = 0; s < in->w; s++) {
            const unet_real *from = g + 2 * (size_t)r * row + 2 * (size_t)s * in->c;
            unet_real *to = dx + ((size_t)r * in->w + s) * in->c;
            for (int c = 0; c < in->c; c++)
                to[c] += from[c] + from[in->c + c] + from[row + c] + from[row + in->c + c];
        }
}

static void concat_image(const struct unet_node *o, int ca, const unet_real *a, const unet_real *b,
                         unet_real *y)
{
    const int cb = o->c - ca;
    for (int p = 0; p < o->h * o->w; p++) {
        memcpy(y + (size_t)p * o->c, a + (size_t)p * ca, (size_t)ca * sizeof *y);
        memcpy(y + (size_t)p * o->c + ca, b + (size_t)p * cb, (size_t)cb * sizeof *y);
    }
}

static void concat_image_backward(const struct unet_node *o, const struct unet_node *a,
                                  const struct unet_node *b, int i)
{
    const size_t pixels = (size_t)o->h * o->w;
    const unet_real *g = o->g + i * pixels * o->c;
    for (size_t p = 0; p < pixels; p++) {
        for (int c = 0; c < a->c && a->needs_grad; c++)
            a->g[(i * pixels + p) * a->c + c] += g[p * o->c + c];
        for (int c = 0; c < b->c && b->needs_grad; c++)
            b->g[(i * pixels + p) * b->c + c] += g[p * o->c + a->c + c];
    }
}

/* ---- layers of piecewise linear networks ---- */

static void leaky_image(const struct unet *u, const struct unet_node *o, const unet_real *x, int i)
{
    const size_t size = unet_node_size(o);
    unet_real *y = o->y + i * size, *slope = o->aux + i * size;
    if (!u->tangent)
        for (size_t k = 0; k < size; k++)
            slope[k] = x[k] > 0 ? 1 : o->factor;
    for (size_t k = 0; k < size; k++)
        y[k] = slope[k] * x[k];
}

/* Rounds half to even, so that a difference of half a step is none. */
static void residue_image(const struct unet *u, const struct unet_node *o, const unet_real *x, int i)
{
    const size_t size = unet_node_size(o);
    const unet_real *told = u->nodes[o->b].y + i * size;
    unet_real *y = o->y + i * size, *slope = o->aux + i * size;
    for (size_t k = 0; k < size; k++) {
        if (u->tangent) {
            y[k] = slope[k] * x[k];
            continue;
        }
        const unet_real off = told[k] - x[k];
        slope[k] = off > 0 ? -1 : off < 0 ? 1 : 0;
        y[k] = (unet_real)(rint(fabs((double)off) / (double)o->factor) * (double)o->factor);
    }
}

static void sloped_image_backward(const struct unet_node *o, const unet_real *g, unet_real *dx, int i)
{
    const size_t size = unet_node_size(o);
    const unet_real *slope = o->aux + i * size;
    for (size_t k = 0; k < size; k++)
        dx[k] += slope[k] * g[k];
}

/* back: adds a stacked gradient g to dx of the size before. */
static void stack_image(const struct unet_node *o, const unet_real *x, unet_real *y, const unet_real *g,
                        unet_real *dx, bool back)
{
    const int c = o->c / 4;
    for (int r = 0; r < o->h; r++)
        for (int s = 0; s < o->w; s++)
            for (int k = 0; k < c; k++)
                for (int d = 0; d < 4; d++) {
                    const size_t small = ((size_t)r * o->w + s) * o->c + (size_t)4 * k + d;
                    const size_t large = ((size_t)(2 * r + d / 2) * 2 * o->w + 2 * s + d % 2) * c + k;
                    if (back)
                        dx[large] += g[small];
                    else
                        y[small] = x[large];
                }
}

static void blend_image(const struct unet *u, const struct unet_node *o, const unet_real *x, int i)
{
    const size_t size = unet_node_size(o);
    const unet_real *b = u->nodes[o->b].y + i * size;
    unet_real *y = o->y + i * size;
    for (size_t k = 0; k < size; k++)
        y[k] = x[k] + o->factor * b[k];
}

static void blend_image_backward(const struct unet *u, const struct unet_node *o, const unet_real *g,
                                 unet_real *dx, int i)
{
    const size_t size = unet_node_size(o);
    unet_real *db = u->nodes[o->b].g + i * size;
    for (size_t k = 0; k < size; k++) {
        dx[k] += g[k];
        db[k] += o->factor * g[k];
    }
}

static void forward_image(const struct unet *u, const struct unet_node *o, const unet_real *values, int i)
{
    const struct unet_node *a = &u->nodes[o->a];
    const size_t size = unet_node_size(o);
    const unet_real *x = a->y + i * unet_node_size(a);
    unet_real *y = o->y + i * size;
    switch (o->op) {
    case UNET_NORM:
        norm_image(u, o, values, i);
        break;
    case UNET_SWISH:
#pragma omp simd
        for (size_t k = 0; k < size; k++)
            y[k] = swish(x[k]);
        break;
    case UNET_DOWN:
        down_image(o, x, y);
        break;
    case UNET_UP:
        memset(y, 0, size * sizeof *y);
        spread_image(a, x, 1, y);
        break;
    case UNET_CONCAT:
        concat_image(o, a->c, x, u->nodes[o->b].y + i * unet_node_size(&u->nodes[o->b]), y);
        break;
    case UNET_ADD:
        for (size_t k = 0; k < size; k++)
            y[k] = x[k] + u->nodes[o->b].y[i * size + k];
        break;
    case UNET_LEAKY:
        leaky_image(u, o, x, i);
        break;
    case UNET_BLEND:
        blend_image(u, o, x, i);
        break;
    case UNET_STACK:
        stack_image(o, x, y, NULL, NULL, false);
        break;
    case UNET_RESIDUE:
        residue_image(u, o, x, i);
        break;
    default:
        break;
    }
}

static void backward_image(const struct unet *u, const struct unet_node *o, int i)
{
    const struct unet_node *a = &u->nodes[o->a];
    const size_t size = unet_node_size(o);
    const unet_real *g = o->g + i * size, *x = a->y + i * unet_node_size(a);
    unet_real *dx = a->g + i * unet_node_size(a);
    switch (o->op) {
    case UNET_SWISH:
#pragma omp simd
        for (size_t k = 0; k < size; k++)
            dx[k] += g[k] * swish_slope(x[k]);
        break;
    case UNET_DOWN:
        spread_image(o, g, (unet_real)0.25, dx);
        break;
    case UNET_UP:
        up_image_backward(a, g, dx);
        break;
    case UNET_CONCAT:
        concat_image_backward(o, a, &u->nodes[o->b], i);
        break;
    case UNET_ADD:
        for (size_t k = 0; k < size; k++) {
            dx[k] += g[k];
            u->nodes[o->b].g[i * size + k] += g[k];
        }
        break;
    case UNET_LEAKY:
    case UNET_RESIDUE:
        sloped_image_backward(o, g, dx, i);
        break;
    case UNET_BLEND:
        blend_image_backward(u, o, g, dx, i);
        break;
    case UNET_STACK:
        stack_image(o, NULL, NULL, g, dx, true);
        break;
    default:
        break;
    }
}

void unet_op_forward(const struct unet *u, const struct unet_node *o, const unet_real *values, int n)
{
    if (o->op == UNET_TIME) {
        time_forward(u, o, n);
    } else if (o->op == UNET_CLASS) {
        class_forward(u, o, values, n);
    } else {
#pragma omp parallel for schedule(static)
        for (int i = 0; i < n; i++)
            forward_image(u, o, values, i);
    }
}

void unet_op_backward(const struct unet *u, const struct unet_node *o, const unet_real *values,
                      unet_real *grads, int n)
{
    if (o->op == UNET_CLASS) {
        class_backward(u, o, grads, n);
    } else if (o->op == UNET_NORM) {
        norm_backward(u, o, values, grads, n);
    } else if (o->op != UNET_TIME) {
#pragma omp parallel for schedule(static)
        for (int i = 0; i < n; i++)
            backward_image(u, o, i);
    }
}
