/* SPDX-License-Identifier: Apache-2.0
 *
 * unet_attention.c - every pixel looks at every pixel of its image: O = softmax(Q K' / sqrt(d)) V, heads side by
 * side (Vaswani et al. 2017). The input's channels are (all heads' Q, all K, all V). One image is one thread's.
 *
 * Backward, with P the softmax and g the gradient by O: dV = P'g; dP = g V'; dS = P (dP - sum_row dP P);
 * dQ = dS K / sqrt(d); dK = dS' Q / sqrt(d). */
#include "models/net/unet_parts.h"

#include <math.h>

struct head {
    const unet_real *q, *k, *v; /* pixel p at p*stride, d numbers */
    int pixels, d, stride;      /* stride of the input: 3c */
    unet_real *p;               /* [pixels,pixels] */
};

static struct head head_of(const struct unet *u, const struct unet_node *o, int i, int k)
{
    const int pixels = o->h * o->w, d = o->c / o->heads;
    const unet_real *in = u->nodes[o->a].y + (size_t)i * pixels * 3 * o->c + (size_t)k * d;
    return (struct head){in,
                         in + o->c,
                         in + 2 * (size_t)o->c,
                         pixels,
                         d,
                         3 * o->c,
                         o->aux + ((size_t)i * o->heads + k) * pixels * pixels};
}

static unet_real dot(const unet_real *a, const unet_real *b, int n)
{
    unet_real s = 0;
    for (int i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

static void softmax(unet_real *row, int n)
{
    unet_real top = row[0];
    double sum = 0;
    for (int i = 1; i < n; i++)
        top = row[i] > top ? row[i] : top;
    for (int i = 0; i < n; i++) {
        row[i] = (unet_real)exp((double)(row[i] - top));
        sum += (double)row[i];
    }
    for (int i = 0; i < n; i++)
        row[i] = (unet_real)((double)row[i] / sum);
}

static void head_forward(const struct head *h, unet_real *out, int out_stride)
{
    const unet_real scale = (unet_real)(1 / sqrt((double)h->d));
    for (int r = 0; r < h->pixels; r++) {
        unet_real *row = h->p + (size_t)r * h->pixels, *to = out + (size_t)r * out_stride;
        for (int s = 0; s < h->pixels; s++)
            row[s] = scale * dot(h->q + (size_t)r * h->stride, h->k + (size_t)s * h->stride, h->d);
        softmax(row, h->pixels);
        for (int c = 0; c < h->d; c++)
            to[c] = 0;
        for (int s = 0; s < h->pixels; s++)
            for (int c = 0; c < h->d; c++)
                to[c] += row[s] * h->v[(size_t)s * h->stride + c];
    }
}

/* din: the gradient by the input, same layout as q. ds [pixels,pixels] is scratch. */
static void head_backward(const struct head *h, const unet_real *g, int g_stride, unet_real *din, int c_all,
                          unet_real *ds)
{
    const unet_real scale = (unet_real)(1 / sqrt((double)h->d));
    unet_real *dq = din, *dk = din + c_all, *dv = din + 2 * (size_t)c_all;
    for (int r = 0; r < h->pixels; r++) {
        const unet_real *row = h->p + (size_t)r * h->pixels, *gr = g + (size_t)r * g_stride;
        unet_real *to = ds + (size_t)r * h->pixels;
        double mean = 0;
        for (int s = 0; s < h->pixels; s++) {
            to[s] = dot(gr, h->v + (size_t)s * h->stride, h->d);
            mean += (double)(to[s] * row[s]);
            for (int c = 0; c < h->d; c++)
                dv[(size_t)s * h->stride + c] += row[s] * gr[c];
        }
        for (int s = 0; s < h->pixels; s++) {
            const unet_real v = scale * row[s] * (to[s] - (unet_real)mean);
            for (int c = 0; c < h->d; c++) {
                dq[(size_t)r * h->stride + c] += v * h->k[(size_t)s * h->stride + c];
                dk[(size_t)s * h->stride + c] += v * h->q[(size_t)r * h->stride + c];
            }
        }
    }
}

void unet_attend_forward(const struct unet *u, const struct unet_node *o, int n)
{
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        for (int k = 0; k < o->heads; k++) {
            const struct head h = head_of(u, o, i, k);
            head_forward(&h, o->y + (size_t)i * unet_node_size(o) + (size_t)k * h.d, o->c);
        }
}

void unet_attend_backward(const struct unet *u, const struct unet_node *o, int n)
{
    const struct unet_node *in = &u->nodes[o->a];
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        for (int k = 0; k < o->heads; k++) {
            const struct head h = head_of(u, o, i, k);
            head_backward(&h, o->g + (size_t)i * unet_node_size(o) + (size_t)k * h.d, o->c,
                          in->g + (size_t)i * unet_node_size(in) + (size_t)k * h.d, o->c,
                          o->part + ((size_t)i * o->heads + k) * h.pixels * h.pixels);
        }
}
