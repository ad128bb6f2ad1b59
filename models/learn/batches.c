/* SPDX-License-Identifier: Apache-2.0
 * batches.c - item order and views of a step, declared in batches.h. */
#include "models/learn/batches.h"

#include "models/base/mem.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct batches_order {
    uint32_t *items; /* the pool, own copy */
    uint32_t *perm;  /* of the epoch below */
    uint32_t n;
    uint64_t epoch, key;
};

enum { NO_EPOCH_YET = -1 };

static bool order_create(struct batches_order *o, size_t n, uint64_t key, struct err *e)
{
    o->n = 0;
    o->key = key;
    o->epoch = (uint64_t)NO_EPOCH_YET;
    o->items = mem_array(n, sizeof *o->items, "the order of items", e);
    o->perm = o->items ? mem_array(n, sizeof *o->perm, "the order of items", e) : NULL;
    return o->perm;
}

static uint32_t order_at(struct batches_order *o, uint64_t seed, uint64_t position)
{
    uint64_t epoch = position / o->n;
    if (epoch != o->epoch) {
        struct rng r;
        rng_init(&r, seed, RNG_SHUFFLE, o->key << 40 | epoch);
        rng_permutation(&r, o->perm, o->n);
        o->epoch = epoch;
    }
    return o->items[o->perm[position % o->n]];
}

/* One order for the pool, or one for each class that occurs in it. */
static bool add_orders(struct batches *b, int s, const uint32_t *pool, size_t n_pool, bool balance,
                       struct err *e)
{
    size_t count[METHOD_MAX_CLASSES] = {0};
    b->first_order[s] = b->n_all_orders;
    b->n_orders[s] = 0;
    if (!balance) {
        struct batches_order *o = &b->orders[b->n_all_orders++];
        if (!order_create(o, n_pool, (uint64_t)s * (METHOD_MAX_CLASSES + 1), e))
            return false;
        memcpy(o->items, pool, n_pool * sizeof *pool);
        o->n = (uint32_t)n_pool;
        b->n_orders[s] = 1;
        return true;
    }
    for (size_t i = 0; i < n_pool; i++)
        count[b->set->label[pool[i]]]++;
    for (int c = 0; c < b->set->n_classes; c++) {
        if (count[c] == 0)
            continue;
        struct batches_order *o = &b->orders[b->n_all_orders++];
        if (!order_create(o, count[c], (uint64_t)s * (METHOD_MAX_CLASSES + 1) + 1 + (uint64_t)c, e))
            return false;
        for (size_t i = 0; i < n_pool; i++)
            if (b->set->label[pool[i]] == c)
                o->items[o->n++] = pool[i];
        b->n_orders[s]++;
    }
    return true;
}

static void add_probes(struct batches *b, enum method_pool pool, int n)
{
    int s = b->n_all_streams++;
    assert(s < BATCHES_MAX_STREAMS);
    b->streams[s] = (struct method_stream){.pool = pool, .per_batch = 1, .n_views = 1};
    b->items[s] = n;
    b->offset[s] = b->n_all_rows;
    b->n_all_rows += n;
}

static bool plan_streams(struct batches *b, const struct train_config *c, const struct method *method,
                         struct err *e)
{
    b->n_streams = method->streams(c, b->streams);
    assert(b->n_streams >= 1 && b->n_streams <= METHOD_MAX_STREAMS);
    for (int s = 0; s < b->n_streams; s++) {
        b->items[s] = b->streams[s].per_batch * c->batch;
        b->offset[s] = b->n_rows;
        b->n_rows += b->items[s] * b->streams[s].n_views;
    }
    b->n_all_rows = b->n_rows;
    b->n_all_streams = b->n_streams;
    if (c->cta)
        add_probes(b, b->streams[0].pool, c->batch);
    if (c->cta && b->streams[0].pool == METHOD_SOURCE && b->streams[1].pool == METHOD_LABELED)
        add_probes(b, METHOD_LABELED, c->batch); /* SSDA: of the target's labels as well */
    if (b->n_all_rows > 1 << 20)
        return err_set(e, ERR_USAGE, "a step of %d images is too large; take a smaller batch or mu",
                       b->n_all_rows);
    return true;
}

static bool open_cta(struct batches *b, struct err *e)
{
    b->cta = mem_array(1, sizeof *b->cta, "the augmentation's rates", e);
    b->policy = b->cta ? mem_array((size_t)(b->n_all_rows - b->n_rows), sizeof *b->policy,
                                   "the augmentation's rates", e)
                       : NULL;
    if (b->policy)
        batches_reset(b);
    return b->policy;
}

void batches_reset(struct batches *b)
{
    if (b->cta)
        cta_init(b->cta, &b->augment, NULL);
}

bool batches_create(struct batches *b, const struct imageset *set, const struct train_config *c,
                    const struct method *method, const struct batches_pools *pools, struct err *e)
{
    memset(b, 0, sizeof *b);
    size_t side = (size_t)set->layout.size;
    b->set = set;
    b->seed = c->seed;
    b->augment = (struct augment_config){
        .layout = set->layout, .mirror = c->mirror, .cutout = c->cutout, .hide_bands = c->hide_bands};
    b->unlabeled = pools->unlabeled;
    b->n_unlabeled = pools->n_unlabeled;
    b->still_share = set->layout.use_match && pools->n_unlabeled > 0 ? c->still_share : 0;
    b->image_bytes = side * side * (size_t)imageset_stored_channels(&set->layout);
    b->row_floats = side * side * (size_t)imageset_input_channels(&set->layout);
    if (!plan_streams(b, c, method, e))
        return false;
    int n_streams = b->n_all_streams;
    b->orders = mem_array((size_t)n_streams * (size_t)(set->n_classes + 1), sizeof *b->orders,
                          "the order of items", e);
    if (!b->orders)
        goto fail;
    for (int s = 0; s < n_streams; s++) {
        enum method_pool kind = b->streams[s].pool;
        bool is_labeled = kind != METHOD_UNLABELED;
        const uint32_t *pool = kind == METHOD_LABELED  ? pools->labeled
                               : kind == METHOD_SOURCE ? pools->source
                                                       : pools->unlabeled;
        size_t n = kind == METHOD_LABELED  ? pools->n_labeled
                   : kind == METHOD_SOURCE ? pools->n_source
                                           : pools->n_unlabeled;
        assert(n > 0);
        b->label[s] = mem_array((size_t)b->items[s], sizeof *b->label[s], "a batch", e);
        b->item[s] = b->label[s] ? mem_array((size_t)b->items[s], sizeof *b->item[s], "a batch", e) : NULL;
        if (!b->item[s] || !add_orders(b, s, pool, n, is_labeled && c->balance, e))
            goto fail;
    }
    b->still = mem_array((size_t)b->items[0], sizeof *b->still, "a batch", e);
    if (!b->still || (c->cta && !open_cta(b, e)))
        goto fail;
    b->n_threads = omp_get_max_threads();
    size_t scratch = augment_scratch_bytes(&b->augment);
    if (b->cta && cta_scratch_bytes(&b->augment) > scratch)
        scratch = cta_scratch_bytes(&b->augment);
    b->scratch_bytes = (scratch + 127 + (b->still_share > 0 ? b->image_bytes : 0)) & ~(size_t)63;
    b->x = mem_array((size_t)b->n_all_rows, b->row_floats * sizeof *b->x, "the views of a batch", e);
    b->scratch = b->x ? mem_array((size_t)b->n_threads, b->scratch_bytes, "the augmentation", e) : NULL;
    if (!b->scratch)
        goto fail;
    return true;
fail:
    batches_free(b);
    return false;
}

void batches_free(struct batches *b)
{
    for (int s = 0; s < BATCHES_MAX_STREAMS; s++) {
        free(b->label[s]);
        free(b->item[s]);
    }
    for (int o = 0; o < b->n_all_orders; o++) {
        free(b->orders[o].items);
        free(b->orders[o].perm);
    }
    free(b->orders);
    free(b->still);
    free(b->x);
    free(b->scratch);
    free(b->cta);
    free(b->policy);
    memset(b, 0, sizeof *b);
}

/* By chance another image takes the place of an undamaged item of stream 0. */
static void draw_still(struct batches *b, int i, uint64_t position)
{
    struct rng r;
    b->still[i] = 0;
    if (b->still_share <= 0 || b->label[0][i] != 0)
        return;
    rng_init(&r, b->seed, RNG_STILL, position);
    if (rng_uniform(&r) >= b->still_share)
        return;
    b->item[0][i] = b->unlabeled[rng_below(&r, (uint32_t)b->n_unlabeled)];
    b->still[i] = (uint8_t)(1 + rng_below(&r, 2));
}

static void draw(struct batches *b, int s, int64_t step)
{
    int k = b->n_orders[s];
    for (int i = 0; i < b->items[s]; i++) {
        uint64_t position = (uint64_t)step * (uint64_t)b->items[s] + (uint64_t)i;
        struct batches_order *o = &b->orders[b->first_order[s] + (int)(position % (uint64_t)k)];
        uint32_t item = order_at(o, b->seed, position / (uint64_t)k);
        b->item[s][i] = item;
        b->label[s][i] =
            b->streams[s].pool != METHOD_UNLABELED ? b->set->label[item] : (int16_t)IMAGESET_NO_LABEL;
        if (s == 0)
            draw_still(b, i, position);
    }
}

/* The pair with one of its dates in both places. */
static void copy_still(const struct imageset_layout *l, const uint8_t *px, int date, uint8_t *out)
{
    const int nb = l->n_bands, stored = imageset_stored_channels(l);
    const size_t bytes = (size_t)l->size * (size_t)l->size * (size_t)stored;
    memcpy(out, px, bytes);
    for (uint8_t *end = out + bytes; out < end; out += stored) {
        memcpy(out + (1 - date) * nb, out + date * nb, (size_t)nb);
        if (l->has_masks)
            out[2 * nb] = out[2 * nb] >> date & 1 ? 3 : 0;
    }
}

static void make_row(struct batches *b, int64_t step, int row, void *scratch)
{
    int s = b->n_all_streams - 1;
    while (row < b->offset[s])
        s--;
    int view = (row - b->offset[s]) / b->items[s], i = (row - b->offset[s]) % b->items[s];
    enum augment_kind kind = b->streams[s].view[view];
    const uint8_t *px = b->set->px + b->item[s][i] * b->image_bytes;
    float *x = b->x + (size_t)row * b->row_floats;
    bool is_probe = s >= b->n_streams;
    if (s == 0 && b->still[i]) {
        uint8_t *copy = (uint8_t *)scratch + b->scratch_bytes - b->image_bytes;
        copy_still(&b->set->layout, px, b->still[i] - 1, copy);
        px = copy;
        kind = AUGMENT_STRONG; /* the dates of a real pair are never the same to the bit */
    }
    struct rng r;
    rng_init(&r, b->seed, is_probe || kind == AUGMENT_STRONG ? RNG_STRONG : RNG_WEAK,
             (uint64_t)step * (uint64_t)b->n_all_rows + (uint64_t)row);
    if (is_probe)
        cta_probe_view(b->cta, px, &r, x, scratch, &b->policy[row - b->n_rows]);
    else if (b->cta && kind == AUGMENT_STRONG)
        cta_strong_view(b->cta, px, &r, x, scratch, NULL);
    else
        augment_view(&b->augment, kind, px, &r, x, scratch);
}

void batches_make(struct batches *b, int64_t step)
{
    for (int s = 0; s < b->n_all_streams; s++)
        draw(b, s, step);
#pragma omp parallel for schedule(dynamic, 4) num_threads(b->n_threads)
    for (int row = 0; row < b->n_all_rows; row++)
        make_row(b, step, row, b->scratch + (size_t)omp_get_thread_num() * b->scratch_bytes);
}
