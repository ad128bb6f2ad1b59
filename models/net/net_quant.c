/* SPDX-License-Identifier: Apache-2.0
 *
 * net_quant.c - net_quant.h: what is folded into what, and the walk over the blocks.
 *
 * Arithmetic. An activation a is stored as the byte q = a/unit + zero. With integer weights v = w/step[k] the
 * convolution is
 *
 *   sum a w = unit step[k] (sum q v - zero sum v)
 *
 * so that everything behind the integer sum is one multiply-add per channel, into which the bias goes, and,
 * behind a block's first convolution, the batch norm and the next tensor's unit too (leaky ReLU commutes with
 * positive factors). A block's second convolution adds the shortcut in fp32 and leaves both the fp32 sum and
 * its activation in bytes for the next block. The batch norm in front of a block cannot be folded into the
 * convolution before it, whose output the shortcut needs raw.
 *
 * Walk. Whole network for one image, then the next: an image's tensors (a few hundred kB) stay in the
 * second-level cache and nothing but the weights is read from beyond.
 *
 * Ranges are the least and greatest values seen; cutting rare values off (at 5 to 12 standard deviations) and
 * units per channel, folded into the weights behind, were tried and moved probabilities more. What rounding
 * the weights does to the mean of an output is known from the mean of the inputs, and goes into the bias (the
 * bias correction of Nagel et al., "Data-Free Quantization", ICCV 2019): it halves the error of the logits.
 *
 * What is left changes the class of an image only where its two best logits lie close together. How far 8
 * bits move their difference is measured at the freeze on images kept from the observation; images whose
 * difference is below SURE times that (the root of its mean square) are run again in fp32. */
#include "models/net/net_quant.h"

#include "models/kernels/int8.h"
#include "models/net/net_plan.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 32 /* images that measure the error */, SURE = 4 };
enum {
    CHUNK = 16 /* images settled at a time */,
    INT8_MULTIPLE = 16,
    CHANNELS = 8 /* a thread's when ranges are observed */
};

struct quant_tensor { /* an activation as bytes */
    float low, high;  /* observed, zero included */
    double *sum;      /* [c] of all values observed */
    double n_seen;    /* values a channel */
    float unit, zero;
    float *scale, *shift; /* [c] raw value -> units, batch norm included */
};

struct quant_conv {
    struct int8_shape shape;
    int8_t *packed;
    float *mul, *add; /* [k] */
};

struct quant_block {
    struct quant_tensor entry; /* conv1's input: act1(x) */
    struct quant_tensor inner; /* conv2's input: act2(h) */
    struct quant_tensor raw;   /* the shortcut's input where that is x itself */
    struct quant_conv conv1, conv2, shortcut;
};

struct quant_buffers { /* of one thread */
    uint8_t *entry, *inner, *raw;
    float *stem, *stream[2];
};

struct net_quant {
    struct net *net;
    struct quant_block *blocks;
    int n_threads;
    bool is_frozen, has_seen;
    struct quant_buffers *buffers; /* [n_threads] */
    float *kept, *exact;           /* [KEPT, size, size, c_in] observed images, [KEPT, n_classes] logits */
    int n_kept;
    float unsure;              /* difference of the two best logits below which 8 bits do not decide */
    float *again;              /* [CHUNK, size, size, c_in] images to be run in fp32 */
    int *again_at;             /* [max_batch] which they are */
    float *embedding, *logits; /* [max_batch, ...] results while they are mixed */
    int8_t *weights;           /* room for the largest kernel while it is quantized */
    struct arena arena;
};

/* ---- sizes */

static size_t kernel_count(const struct int8_shape *s)
{
    return (size_t)s->ksize * s->ksize * s->c * s->k;
}

static struct int8_shape shape_of(const struct net_conv *conv)
{
    const struct conv_shape *s = &conv->shape;
    /* a strided 1x1 kernel runs over pixels picked beforehand */
    int pick = s->ksize == 1 ? s->stride : 1;
    return (struct int8_shape){s->h / pick, s->w / pick, s->c, s->k, s->ksize, s->stride / pick};
}

static void take_conv(struct arena *a, struct quant_conv *q, const struct net_conv *conv)
{
    q->shape = shape_of(conv);
    q->packed = arena_take(a, kernel_count(&q->shape), 1);
    q->mul = arena_take(a, (size_t)q->shape.k, sizeof(float));
    q->add = arena_take(a, (size_t)q->shape.k, sizeof(float));
}

static void take_tensor(struct arena *a, struct quant_tensor *t, int c)
{
    t->sum = arena_take(a, (size_t)c, sizeof(double));
    t->scale = arena_take(a, (size_t)c, sizeof(float));
    t->shift = arena_take(a, (size_t)c, sizeof(float));
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t padded_bytes(int h, int w, int c)
{
    return (size_t)(h + 2) * (w + 2) * c;
}

static void take_all(struct net_quant *q, struct arena *a)
{
    const struct net *net = q->net;
    size_t bytes = 0, floats = 0, kernel = 0, pixels = (size_t)net->config.size * net->config.size;
    q->blocks = arena_take(a, (size_t)net->n_blocks, sizeof *q->blocks);
    q->buffers = arena_take(a, (size_t)q->n_threads, sizeof *q->buffers);
    for (int i = 0; i < net->n_blocks; i++) {
        const struct net_block *b = &net->blocks[i];
        const struct conv_shape *first = &b->conv1.shape, *second = &b->conv2.shape;
        struct quant_block spare, *to = a->base ? &q->blocks[i] : &spare;
        take_tensor(a, &to->entry, first->c);
        take_tensor(a, &to->inner, second->c);
        take_tensor(a, &to->raw, first->c);
        take_conv(a, &to->conv1, &b->conv1);
        take_conv(a, &to->conv2, &b->conv2);
        if (b->has_shortcut)
            take_conv(a, &to->shortcut, &b->shortcut);
        bytes = larger(bytes, larger(padded_bytes(first->h, first->w, first->c),
                                     padded_bytes(second->h, second->w, second->c)));
        floats = larger(floats, (size_t)second->h * second->w * second->k);
        kernel = larger(kernel, larger(kernel_count(&to->conv1.shape), kernel_count(&to->conv2.shape)));
    }
    q->weights = arena_take(a, kernel, 1);
    const size_t image = pixels * net->config.c_in, batch = (size_t)net->max_batch;
    q->kept = arena_take(a, KEPT * image, sizeof(float));
    q->exact = arena_take(a, KEPT * (size_t)net->config.n_classes, sizeof(float));
    q->again = arena_take(a, CHUNK * image, sizeof(float));
    q->again_at = arena_take(a, batch, sizeof(int));
    q->embedding = arena_take(a, batch * net->norm.c, sizeof(float));
    q->logits = arena_take(a, batch * net->config.n_classes, sizeof(float));
    for (int t = 0; t < q->n_threads; t++) {
        struct quant_buffers spare, *to = a->base ? &q->buffers[t] : &spare;
        to->entry = arena_take(a, bytes, 1);
        to->inner = arena_take(a, bytes, 1);
        to->raw = arena_take(a, bytes, 1);
        to->stem = arena_take(a, pixels * NET_STEM, sizeof(float));
        for (int i = 0; i < 2; i++)
            to->stream[i] = arena_take(a, floats, sizeof(float));
    }
}

struct net_quant *net_quant_create(struct net *net, struct err *e)
{
    struct arena plan = {0};
    assert(net->mode == NET_INFER);
    for (int i = 0; i < net->n_blocks; i++)
        if (net->blocks[i].conv2.shape.k % INT8_MULTIPLE) {
            err_set(e, ERR_USAGE,
                    "8-bit inference wants channels in multiples of %d, this network has %d; use fp32",
                    INT8_MULTIPLE, net->blocks[i].conv2.shape.k);
            return NULL;
        }
    struct net_quant *q = mem_array(1, sizeof *q, "8-bit inference", e);
    if (!q)
        return NULL;
    q->net = net;
    q->n_threads = conv_scratch_lanes(net->scratch);
    take_all(q, &plan);
    if (!arena_open(&q->arena, plan.used_bytes, e)) {
        err_prefix(e, "8-bit inference");
        free(q);
        return NULL;
    }
    take_all(q, &q->arena);
    return q;
}

void net_quant_free(struct net_quant *q)
{
    if (q)
        arena_close(&q->arena);
    free(q);
}

/* ---- ranges */

static float leaky(float z)
{
    float v = CONV_LRELU_SLOPE * z;
    return z > v ? z : v;
}

/* One thread takes some channels of all pixels, so that the sums do not depend on the number of threads. */
static void widen(struct quant_tensor *t, const float *raw, size_t n_pixels, int c, const float *scale,
                  const float *shift)
{
    float low = t->low, high = t->high;
#pragma omp parallel for schedule(static) reduction(min : low) reduction(max : high)
    for (int first = 0; first < c; first += CHANNELS) {
        float least[CHANNELS] = {0}, most[CHANNELS] = {0}, factor[CHANNELS], offset[CHANNELS];
        double sum[CHANNELS] = {0};
        const float slope = scale ? CONV_LRELU_SLOPE : 1.0f;
        for (int k = 0; k < CHANNELS; k++) {
            factor[k] = scale ? scale[first + k] : 1.0f;
            offset[k] = scale ? shift[first + k] : 0.0f;
        }
        for (size_t p = 0; p < n_pixels; p++) {
            const float *in = raw + p * c + first;
#pragma omp simd
            for (int k = 0; k < CHANNELS; k++) {
                float z = factor[k] * in[k] + offset[k], low_z = slope * z, v = z > low_z ? z : low_z;
                least[k] = v < least[k] ? v : least[k];
                most[k] = v > most[k] ? v : most[k];
                sum[k] += (double)v;
            }
        }
        for (int k = 0; k < CHANNELS; k++) {
            low = least[k] < low ? least[k] : low;
            high = most[k] > high ? most[k] : high;
            t->sum[first + k] += sum[k];
        }
    }
    t->low = low;
    t->high = high;
    t->n_seen += (double)n_pixels;
}

static void observe(void *ctx, const struct net_norm *norm, const float *raw, size_t n_pixels)
{
    struct net_quant *q = ctx;
    const struct net_block *blocks = q->net->blocks;
    int i = 0;
    while (norm != &blocks[i].norm1 && norm != &blocks[i].norm2)
        i++;
    bool is_first = norm == &blocks[i].norm1;
    widen(is_first ? &q->blocks[i].entry : &q->blocks[i].inner, raw, n_pixels, norm->c, norm->scale,
          norm->shift);
    if (is_first && blocks[i].has_shortcut && !blocks[i].activated)
        widen(&q->blocks[i].raw, raw, n_pixels, norm->c, NULL, NULL);
}

void net_quant_observe(struct net_quant *q, const float *x, int n)
{
    assert(!q->is_frozen);
    q->net->observe = observe;
    q->net->observe_ctx = q;
    const float *logits = net_forward(q->net, x, n, NET_BN_RUNNING);
    q->net->observe = NULL;
    q->has_seen = true;
    const struct net_config *c = &q->net->config;
    const size_t image = (size_t)c->size * c->size * c->c_in;
    int more = KEPT - q->n_kept < n ? KEPT - q->n_kept : n;
    memcpy(q->kept + q->n_kept * image, x, more * image * sizeof *x);
    memcpy(q->exact + (size_t)q->n_kept * c->n_classes, logits, (size_t)more * c->n_classes * sizeof *logits);
    q->n_kept += more;
}

/* ---- freeze */

/* scale, shift: the batch norm in front, NULL when none is to be applied. */
static void freeze_tensor(struct quant_tensor *t, int c, const float *scale, const float *shift)
{
    float width = t->high - t->low;
    t->unit = width > 0 ? width / 255.0f : 1.0f;
    t->zero = rintf(-t->low / t->unit);
    for (int k = 0; k < c; k++) {
        t->scale[k] = (scale ? scale[k] : 1.0f) / t->unit;
        t->shift[k] = (shift ? shift[k] : 0.0f) / t->unit;
    }
}

/* norm: the batch norm behind, folded with the unit of `out`; NULL leaves fp32. */
static void freeze_conv(struct net_quant *q, struct quant_conv *to, const struct net_conv *from,
                        const struct quant_tensor *in, const struct net_norm *norm,
                        const struct quant_tensor *out)
{
    int k = to->shape.k, c = to->shape.c;
    size_t count = kernel_count(&to->shape);
    for (int j = 0; j < k; j++) {
        float most = 0;
        int sum = 0;
        double lost = 0; /* of the mean, by rounding the weights */
        for (size_t i = (size_t)j; i < count; i += (size_t)k)
            most = fmaxf(most, fabsf(from->kernel[i]));
        float step = most > 0 ? most / 127.0f : 1.0f;
        for (size_t i = (size_t)j; i < count; i += (size_t)k) {
            float w = from->kernel[i], rounded = rintf(w / step);
            q->weights[i] = (int8_t)rounded;
            sum += q->weights[i];
            lost += (double)(w - rounded * step) * in->sum[i / (size_t)k % (size_t)c] / in->n_seen;
        }
        double mul = (double)in->unit * (double)step;
        double add = (double)from->bias[j] + lost - mul * (double)in->zero * sum;
        if (norm) {
            double factor = (double)norm->scale[j] / (double)out->unit;
            mul *= factor;
            add = add * factor + (double)norm->shift[j] / (double)out->unit;
        }
        to->mul[j] = (float)mul;
        to->add[j] = (float)add;
    }
    int8_pack(&to->shape, q->weights, to->packed);
}

/* ---- forward */

static void activate(const struct net_norm *norm, float *x, size_t n_pixels)
{
    int c = norm->c;
    const float *scale = norm->scale, *shift = norm->shift;
    for (size_t p = 0; p < n_pixels; p++, x += c) {
#pragma omp simd
        for (int k = 0; k < c; k++)
            x[k] = leaky(scale[k] * x[k] + shift[k]);
    }
}

/* stream: the running fp32 sum [h,w,c] of one image. Returns the last block's. */
static const float *forward_blocks(const struct net_quant *q, const struct quant_buffers *b, float *stream)
{
    const struct net *net = q->net;
    const struct conv_shape *first = &net->blocks[0].conv1.shape;
    const struct quant_tensor *entry = &q->blocks[0].entry;
    int spare = 0;
    int8_quantize(stream, first->h, first->w, first->c, 1, entry->scale, entry->shift, true, entry->zero,
                  b->entry);
    for (int i = 0; i < net->n_blocks; i++) {
        const struct net_block *from = &net->blocks[i];
        const struct quant_block *to = &q->blocks[i];
        const struct conv_shape *in = &from->conv1.shape;
        float *out = stream;
        if (from->has_shortcut) {
            const uint8_t *x = b->entry;
            out = b->stream[spare];
            spare = 1 - spare;
            if (!from->activated) {
                int8_quantize(stream, in->h, in->w, in->c, in->stride, to->raw.scale, to->raw.shift, false,
                              to->raw.zero, b->raw);
                x = b->raw;
            }
            int8_conv(&to->shortcut.shape, x, to->shortcut.packed,
                      &(struct int8_epilogue){.mul = to->shortcut.mul, .add = to->shortcut.add, .out = out});
        } else if (from->activated)
            activate(&from->norm1, stream, (size_t)in->h * in->w);
        int8_conv(&to->conv1.shape, b->entry, to->conv1.packed,
                  &(struct int8_epilogue){
                      .mul = to->conv1.mul, .add = to->conv1.add, .zero = to->inner.zero, .q = b->inner});
        struct int8_epilogue e = {.mul = to->conv2.mul, .add = to->conv2.add, .residual = out, .out = out};
        if (i + 1 < net->n_blocks) {
            entry = &q->blocks[i + 1].entry;
            e.scale = entry->scale;
            e.shift = entry->shift;
            e.zero = entry->zero;
            e.q = b->entry;
        }
        int8_conv(&to->conv2.shape, b->inner, to->conv2.packed, &e);
        stream = out;
    }
    return stream;
}

/* Every image in 8 bits, into the net's logits and embedding. */
static void forward_all(struct net_quant *q, const float *x, int n)
{
    struct net *net = q->net;
    const struct conv_act none = {NULL, NULL};
    const size_t pixels = (size_t)net->config.size * net->config.size;
    const int embedding = net->norm.c, n_classes = net->config.n_classes;
    const int threads = omp_get_max_threads() < q->n_threads ? omp_get_max_threads() : q->n_threads;
    struct conv_shape stem = net->stem.shape;
    stem.n = 1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int i = 0; i < n; i++) {
        const int t = omp_get_thread_num();
        const struct quant_buffers *b = &q->buffers[t];
        conv_forward(&stem, x + (size_t)i * pixels * net->config.c_in, none, net->stem.prepared,
                     net->stem.bias, NULL, b->stem, NULL, conv_scratch_lane(net->scratch, t));
        const float *last = forward_blocks(q, b, b->stem);
        net_head(net, last, net->embedding + (size_t)i * embedding, net->logits + (size_t)i * n_classes);
    }
}

/* The two greatest of n >= 2 logits. */
static void best_two(const float *logits, int n, int best[2])
{
    best[0] = logits[1] > logits[0];
    best[1] = 1 - best[0];
    for (int i = 2; i < n; i++)
        if (logits[i] > logits[best[0]]) {
            best[1] = best[0];
            best[0] = i;
        } else if (logits[i] > logits[best[1]])
            best[1] = i;
}

static void measure_error(struct net_quant *q)
{
    const int n_classes = q->net->config.n_classes, batch = q->net->max_batch;
    const size_t image = (size_t)q->net->config.size * q->net->config.size * q->net->config.c_in;
    double squares = 0;
    for (int done = 0, here; done < q->n_kept; done += here) {
        here = q->n_kept - done < batch ? q->n_kept - done : batch;
        forward_all(q, q->kept + done * image, here);
        for (int i = 0; i < here; i++) {
            const float *exact = q->exact + (size_t)(done + i) * n_classes;
            const float *got = q->net->logits + (size_t)i * n_classes;
            int best[2];
            best_two(exact, n_classes, best);
            double moved = (double)(got[best[0]] - got[best[1]]) - (double)(exact[best[0]] - exact[best[1]]);
            squares += moved * moved;
        }
    }
    q->unsure = (float)(SURE * sqrt(squares / q->n_kept));
}

void net_quant_freeze(struct net_quant *q)
{
    assert(q->has_seen && !q->is_frozen);
    for (int i = 0; i < q->net->n_blocks; i++) {
        const struct net_block *from = &q->net->blocks[i];
        struct quant_block *to = &q->blocks[i];
        freeze_tensor(&to->entry, from->norm1.c, from->norm1.scale, from->norm1.shift);
        freeze_tensor(&to->inner, from->norm2.c, NULL, NULL);
        freeze_tensor(&to->raw, from->norm1.c, NULL, NULL);
        freeze_conv(q, &to->conv1, &from->conv1, &to->entry, &from->norm2, &to->inner);
        freeze_conv(q, &to->conv2, &from->conv2, &to->inner, NULL, NULL);
        if (from->has_shortcut)
            freeze_conv(q, &to->shortcut, &from->shortcut, from->activated ? &to->entry : &to->raw, NULL,
                        NULL);
    }
    q->is_frozen = true;
    measure_error(q);
}

/* Runs the images again that 8 bits do not decide, CHUNK at a time, and puts their results in place. */
static void settle(struct net_quant *q, const float *x, int n)
{
    struct net *net = q->net;
    const size_t image = (size_t)net->config.size * net->config.size * net->config.c_in;
    const size_t embedding = net->norm.c, n_classes = net->config.n_classes;
    const int chunk = CHUNK < net->max_batch ? CHUNK : net->max_batch;
    int n_again = 0;
    for (int i = 0; i < n; i++) {
        const float *logits = net->logits + i * n_classes;
        int best[2];
        best_two(logits, (int)n_classes, best);
        if (logits[best[0]] - logits[best[1]] < q->unsure)
            q->again_at[n_again++] = i;
    }
    if (n_again == 0)
        return;
    memcpy(q->embedding, net->embedding, n * embedding * sizeof(float));
    memcpy(q->logits, net->logits, n * n_classes * sizeof(float));
    for (int done = 0, here; done < n_again; done += here) {
        here = n_again - done < chunk ? n_again - done : chunk;
        for (int i = 0; i < here; i++)
            memcpy(q->again + i * image, x + q->again_at[done + i] * image, image * sizeof *x);
        net_forward(net, q->again, here, NET_BN_RUNNING);
        for (int i = 0; i < here; i++) {
            const size_t at = (size_t)q->again_at[done + i];
            memcpy(q->embedding + at * embedding, net->embedding + i * embedding, embedding * sizeof(float));
            memcpy(q->logits + at * n_classes, net->logits + i * n_classes, n_classes * sizeof(float));
        }
    }
    memcpy(net->embedding, q->embedding, n * embedding * sizeof(float));
    memcpy(net->logits, q->logits, n * n_classes * sizeof(float));
}

const float *net_quant_forward(struct net_quant *q, const float *x, int n)
{
    assert(q->is_frozen && n >= 1 && n <= q->net->max_batch);
    forward_all(q, x, n);
    settle(q, x, n);
    q->net->last_n = n;
    q->net->last_bn = NET_BN_RUNNING;
    return q->net->logits;
}
