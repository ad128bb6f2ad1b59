/* SPDX-License-Identifier: Apache-2.0
 *
 * int8_plain.c - int8.h in plain C: the choice of a body, the packing of weights, and the oracle of the fast
 * bodies. */
#include "models/kernels/int8.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#ifdef AM_KERNELS_X86
#include <cpuid.h>
#endif

enum { PANEL = 32 };

/* ---- the choice */

#ifdef AM_KERNELS_X86
/* Not every compiler's __builtin_cpu_supports() knows AVX-VNNI: leaf 7, subleaf 1, EAX bit 4. */
static bool has_avxvnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

static const struct int8_body *chosen = &int8_plain;
static const char *chosen_name = "plain";

/* Asked once and kept: in a virtual machine a cpuid costs as much as a small convolution. */
void int8_init(void)
{
    chosen = &int8_plain;
    chosen_name = "plain";
#ifdef AM_KERNELS_X86
    const char *rung = kernels_rung();
    bool is_512 = strcmp(rung, "avx512") == 0;
    if (is_512 && __builtin_cpu_supports("avx512vnni")) {
        chosen = &int8_avx512vnni;
        chosen_name = "avx512vnni";
    } else if ((is_512 || strcmp(rung, "avx2") == 0) && has_avxvnni()) {
        chosen = &int8_avxvnni;
        chosen_name = "avxvnni";
    }
#endif
}

const char *int8_name(void)
{
    return chosen_name;
}

bool int8_is_fast(void)
{
    return chosen != &int8_plain;
}

void int8_conv(const struct int8_shape *s, const uint8_t *x, const int8_t *packed,
               const struct int8_epilogue *e)
{
    assert(s->c % 4 == 0 && s->k % 16 == 0 && (s->ksize == 3 || s->stride == 1));
    assert(s->stride == 1 || (s->h % 2 == 0 && s->w % 2 == 0));
    chosen->conv(s, x, packed, e);
}

void int8_quantize(const float *x, int h, int w, int c, int pick, const float *scale, const float *shift,
                   bool leaky, float zero, uint8_t *q)
{
    chosen->quantize(x, h, w, c, pick, scale, shift, leaky, zero, q);
}

void int8_pack(const struct int8_shape *s, const int8_t *w, int8_t *packed)
{
    int taps = s->ksize * s->ksize;
    for (int first = 0; first < s->k; first += PANEL) {
        int width = s->k - first < PANEL ? s->k - first : PANEL;
        for (int t = 0; t < taps; t++)
            for (int c = 0; c < s->c; c += 4)
                for (int k = 0; k < width; k++)
                    for (int i = 0; i < 4; i++)
                        *packed++ = w[((size_t)t * s->c + c + i) * s->k + first + k];
    }
}

/* ---- the oracle */

static float leaky_relu(float z)
{
    float v = CONV_LRELU_SLOPE * z;
    return z > v ? z : v;
}

static uint8_t to_byte(float z, float zero)
{
    float v = z + (zero + 0.5f);
    v = v > 0.0f ? v : 0.0f;
    return (uint8_t)(v < 255.0f ? v : 255.0f);
}

static void fill_border(uint8_t *q, int h, int w, int c, float zero)
{
    size_t row = (size_t)(w + 2) * c;
    memset(q, (int)zero, row);
    memset(q + (size_t)(h + 1) * row, (int)zero, row);
    for (int i = 1; i <= h; i++) {
        memset(q + i * row, (int)zero, c);
        memset(q + (i + 1) * row - c, (int)zero, c);
    }
}

static int sum_at(const struct int8_shape *s, const uint8_t *x, const int8_t *packed, int i, int j, int k)
{
    int panel = k / PANEL * PANEL, width = s->k - panel < PANEL ? s->k - panel : PANEL, sum = 0;
    int taps = s->ksize * s->ksize, first = s->ksize == 1 || s->stride == 2 ? 1 : 0;
    packed += (size_t)panel * taps * s->c;
    for (int t = 0; t < taps; t++) {
        int row = i * s->stride + first + t / s->ksize, column = j * s->stride + first + t % s->ksize;
        const uint8_t *in = x + ((size_t)row * (s->w + 2) + column) * s->c;
        for (int c = 0; c < s->c; c++)
            sum += in[c] * packed[(((size_t)t * s->c + c) / 4 * width + k - panel) * 4 + c % 4];
    }
    return sum;
}

static void conv(const struct int8_shape *s, const uint8_t *x, const int8_t *packed,
                 const struct int8_epilogue *e)
{
    int oh = s->h / s->stride, ow = s->w / s->stride;
    if (e->q)
        fill_border(e->q, oh, ow, s->k, e->zero);
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++)
            for (int k = 0; k < s->k; k++) {
                size_t at = ((size_t)i * ow + j) * s->k + k;
                float y = fmaf((float)sum_at(s, x, packed, i, j, k), e->mul[k], e->add[k]);
                if (e->residual)
                    y += e->residual[at];
                if (e->out)
                    e->out[at] = y;
                if (e->q)
                    e->q[((size_t)(i + 1) * (ow + 2) + j + 1) * s->k + k] =
                        to_byte(leaky_relu(e->scale ? fmaf(y, e->scale[k], e->shift[k]) : y), e->zero);
            }
}

static void quantize(const float *x, int h, int w, int c, int pick, const float *scale, const float *shift,
                     bool leaky, float zero, uint8_t *q)
{
    int oh = h / pick, ow = w / pick;
    fill_border(q, oh, ow, c, zero);
    for (int i = 0; i < oh; i++)
        for (int j = 0; j < ow; j++)
            for (int k = 0; k < c; k++) {
                float z = fmaf(x[((size_t)i * w + j) * pick * c + k], scale[k], shift[k]);
                q[((size_t)(i + 1) * (ow + 2) + j + 1) * c + k] = to_byte(leaky ? leaky_relu(z) : z, zero);
            }
}

const struct int8_body int8_plain = {conv, quantize};
