/* SPDX-License-Identifier: Apache-2.0
 *
 * split.c - spatial train/test split, declared in split.h.
 *
 * Neighbours are found with a hash-free grid: items sorted by cell, cells found by bisection. For the
 * components the cell side is link_m/sqrt(2), so that all items of one cell are linked without measuring, and
 * two cells are joined by the first pair found within link_m; union-find holds the result.
 *
 * Choosing test blocks: lower is better of
 *     J = 4 (T/n - s)^2 + sum_c (T_c/n_c - T/n)^2 / C + LOSS * D/n
 * with T test items, T_c those of level c, s the wanted share, D the items dropped by the buffer. Scattered
 * test cells would each cost a ring of training items, so D pulls them together while the level term spreads
 * them. Blocks are added greedily among seeded random candidates, then single blocks are flipped or swapped
 * while that lowers J; the best of a few starts counts. Every quantity is kept incrementally: flipping a
 * block touches its items and those within the buffer of it.
 *
 * That search fills its share from what balances best, and among components, whose sizes range over orders of
 * magnitude, that is always the same small ones: the test set would be the scattered farms and never the quarter,
 * under every seed. Components are therefore drawn: each is test with probability s, and the first draw counts that
 * is within SHARE_OFF of s, loses at most DROPPED to the buffer and leaves either side at least half of its due of
 * every level. The search is for cells, which are alike, and for scenes that allow no such draw.
 *
 * Invariants (defended by test_split.c by brute force): 1. two items within link_m are in one component; 2.
 * no training item lies within buffer_m of a test item; 3. every item has exactly one block and one split. */
#include "models/data/split.h"
#include "models/base/mem.h"
#include "models/base/rng.h"
#include "models/data/imageset.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MIN_COMPONENTS = 8,
    N_STARTS = 4,
    N_CANDIDATES = 48,
    N_TRIES = 1500,
    N_DRAWS = 1000,
    MAX_CELLS_A_SIDE = 1 << 30
};
static const double BUFFER_LOSS = 0.15, SHARE_OFF = 0.05, DROPPED = 0.05;

/* Items sorted by grid cell. */
struct grid {
    double x0, y0, side;
    uint32_t *order;   /* [n] items, by cell */
    int64_t *key;      /* [n_cells] ascending: row * 2^31 + column */
    uint32_t *first;   /* [n_cells + 1] into order */
    uint32_t *cell_of; /* [n] */
    size_t n_cells;
};

struct keyed {
    int64_t key;
    uint32_t item;
};

static int compare_keyed(const void *a, const void *b)
{
    const struct keyed *p = a, *q = b;
    if (p->key != q->key)
        return p->key < q->key ? -1 : 1;
    return p->item < q->item ? -1 : p->item > q->item;
}

static void grid_free(struct grid *g)
{
    free(g->order);
    free(g->key);
    free(g->first);
    free(g->cell_of);
    *g = (struct grid){.order = NULL};
}

static bool grid_make(struct grid *g, const double *x, const double *y, size_t n, double side, struct err *e)
{
    struct keyed *k = mem_array(n, sizeof *k, "the split's grid", e);
    double x1 = x[0], y1 = y[0];
    *g = (struct grid){.x0 = x[0], .y0 = y[0], .side = side};
    for (size_t i = 1; i < n; i++) {
        g->x0 = fmin(g->x0, x[i]);
        g->y0 = fmin(g->y0, y[i]);
        x1 = fmax(x1, x[i]);
        y1 = fmax(y1, y[i]);
    }
    g->order = mem_array(n, sizeof *g->order, "the split's grid", e);
    g->key = mem_array(n, sizeof *g->key, "the split's grid", e);
    g->first = mem_array(n + 1, sizeof *g->first, "the split's grid", e);
    g->cell_of = mem_array(n, sizeof *g->cell_of, "the split's grid", e);
    bool ok = k && g->order && g->key && g->first && g->cell_of;
    if (ok && !((x1 - g->x0) / side < MAX_CELLS_A_SIDE && (y1 - g->y0) / side < MAX_CELLS_A_SIDE))
        ok = err_set(e, ERR_USAGE,
                     "a distance of %g m is too small for buildings spread over %.0f km; give a larger one",
                     side, fmax(x1 - g->x0, y1 - g->y0) / 1000.0);
    for (size_t i = 0; ok && i < n; i++)
        k[i] = (struct keyed){(int64_t)((y[i] - g->y0) / side) << 31 | (int64_t)((x[i] - g->x0) / side),
                              (uint32_t)i};
    if (ok)
        qsort(k, n, sizeof *k, compare_keyed);
    for (size_t i = 0; ok && i < n; i++) {
        if (i == 0 || k[i].key != k[i - 1].key) {
            g->key[g->n_cells] = k[i].key;
            g->first[g->n_cells++] = (uint32_t)i;
        }
        g->order[i] = k[i].item;
        g->cell_of[k[i].item] = (uint32_t)(g->n_cells - 1);
    }
    if (ok)
        g->first[g->n_cells] = (uint32_t)n;
    else
        grid_free(g);
    free(k);
    return ok;
}

/* Cells of row `row` with columns c0..c1, as a range of cell numbers [*from, *to). */
static void grid_row(const struct grid *g, int64_t row, int64_t c0, int64_t c1, size_t *from, size_t *to)
{
    *from = *to = 0;
    if (row < 0 || c1 < 0)
        return;
    int64_t want = row << 31 | (c0 < 0 ? 0 : c0), last = row << 31 | c1;
    size_t lo = 0, hi = g->n_cells;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (g->key[mid] < want)
            lo = mid + 1;
        else
            hi = mid;
    }
    *from = lo;
    while (lo < g->n_cells && g->key[lo] <= last)
        lo++;
    *to = lo;
}

static bool is_near(const double *x, const double *y, uint32_t i, uint32_t j, double d)
{
    double dx = x[i] - x[j], dy = y[i] - y[j];
    return dx * dx + dy * dy <= d * d;
}

static uint32_t find_root(uint32_t *parent, uint32_t i)
{
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

static bool cells_touch(const struct grid *g, const double *x, const double *y, size_t a, size_t b, double d)
{
    for (uint32_t i = g->first[a]; i < g->first[a + 1]; i++)
        for (uint32_t j = g->first[b]; j < g->first[b + 1]; j++)
            if (is_near(x, y, g->order[i], g->order[j], d))
                return true;
    return false;
}

/* Numbers blocks from 0 in order of their first item. root [n] holds any value below n; map [n] is scratch.
 */
static int number_blocks(const uint32_t *root, size_t n, int32_t *map, int32_t *block)
{
    int n_blocks = 0;
    for (size_t i = 0; i < n; i++)
        map[i] = -1;
    for (size_t i = 0; i < n; i++) {
        if (map[root[i]] < 0)
            map[root[i]] = n_blocks++;
        block[i] = map[root[i]];
    }
    return n_blocks;
}

/* Connected components under link_m. Returns their number, 0 on error; *largest gets the size of the largest.
 */
static int make_components(const double *x, const double *y, size_t n, double link_m, int32_t *block,
                           size_t *largest, struct err *e)
{
    struct grid g;
    int n_blocks = 0;
    if (!grid_make(&g, x, y, n, link_m / sqrt(2.0), e))
        return 0;
    uint32_t *parent =
        mem_array(n, sizeof *parent, "the split's components", e); /* of cells, then roots of items */
    uint32_t *root = mem_array(n, sizeof *root, "the split's components", e);
    int32_t *map = mem_array(n, sizeof *map, "the split's components", e);
    if (!parent || !root || !map)
        goto end;
    for (size_t c = 0; c < g.n_cells; c++)
        parent[c] = (uint32_t)c;
    for (size_t c = 0; c < g.n_cells; c++) {
        int64_t row = g.key[c] >> 31, column = g.key[c] & INT32_MAX;
        for (int64_t dy = 0; dy <= 2; dy++) { /* the other half is met from the other side */
            size_t from, to;
            grid_row(&g, row + dy, column - 2, column + 2, &from, &to);
            for (size_t o = from; o < to; o++) {
                uint32_t a = find_root(parent, (uint32_t)c), b = find_root(parent, (uint32_t)o);
                if (a != b && cells_touch(&g, x, y, c, o, link_m))
                    parent[a > b ? a : b] = a > b ? b : a;
            }
        }
    }
    for (size_t i = 0; i < n; i++)
        root[i] = find_root(parent, g.cell_of[i]);
    n_blocks = number_blocks(root, n, map, block);
    *largest = 0;
    memset(map, 0, n * sizeof *map);
    for (size_t i = 0; i < n; i++)
        if ((size_t)++map[block[i]] > *largest)
            *largest = (size_t)map[block[i]];
end:
    free(parent);
    free(root);
    free(map);
    grid_free(&g);
    return n_blocks;
}

static int make_cells(const double *x, const double *y, size_t n, double block_m, int32_t *block,
                      struct err *e)
{
    struct grid g;
    if (!grid_make(&g, x, y, n, block_m, e))
        return 0;
    int32_t *map = mem_array(n, sizeof *map, "the split's blocks", e);
    int n_blocks = map ? number_blocks(g.cell_of, n, map, block) : 0;
    free(map);
    grid_free(&g);
    return n_blocks;
}

/* The search's state. */
struct search {
    size_t n;
    int n_blocks, n_levels;
    double share;
    const int32_t *block;
    const int16_t *level;     /* remapped to 0..n_levels-1, -1 unknown */
    uint32_t *item, *first;   /* items of block b: item[first[b] .. first[b+1]) */
    uint32_t *near, *near_at; /* items of other blocks within the buffer of block b */
    uint32_t *reach;          /* [n] how many test blocks reach the item */
    uint8_t *test;            /* [n_blocks] */
    size_t *have, *taken;     /* [n_levels] items of a level, and those in test blocks */
    size_t n_test, n_dropped;
    int n_test_blocks;
};

static double search_cost(const struct search *s)
{
    double t = (double)s->n_test / (double)s->n, all = t - s->share, levels = 0.0;
    for (int c = 0; c < s->n_levels; c++) {
        double off = (double)s->taken[c] / (double)s->have[c] - t;
        levels += off * off;
    }
    return 4.0 * all * all + levels / (s->n_levels ? s->n_levels : 1) +
           BUFFER_LOSS * (double)s->n_dropped / (double)s->n;
}

static void search_flip(struct search *s, int b)
{
    const bool enter = !s->test[b];
    s->test[b] = enter;
    s->n_test_blocks += enter ? 1 : -1;
    for (uint32_t k = s->first[b]; k < s->first[b + 1]; k++) {
        uint32_t i = s->item[k];
        s->n_test += enter ? 1 : (size_t)-1;
        if (s->level[i] >= 0)
            s->taken[s->level[i]] += enter ? 1 : (size_t)-1;
        if (s->reach[i])
            s->n_dropped += enter ? (size_t)-1 : 1;
    }
    for (uint32_t k = s->near_at[b]; k < s->near_at[b + 1]; k++) {
        uint32_t i = s->near[k];
        bool was = s->reach[i] > 0;
        s->reach[i] += enter ? 1 : (uint32_t)-1;
        bool is = s->reach[i] > 0;
        if (was != is && !s->test[s->block[i]])
            s->n_dropped += is ? 1 : (size_t)-1;
    }
}

/* Adds the best of some random blocks until the share is met as nearly as one more block allows. */
static void search_greedy(struct search *s, struct rng *r)
{
    search_flip(s, (int)rng_below(r, (uint32_t)s->n_blocks));
    while (s->n_test_blocks < s->n_blocks - 1) {
        int best = -1;
        double best_cost = 0.0, short_by = s->share - (double)s->n_test / (double)s->n;
        for (int k = 0; k < N_CANDIDATES; k++) {
            int b = (int)rng_below(r, (uint32_t)s->n_blocks);
            double size = (double)(s->first[b + 1] - s->first[b]) / (double)s->n;
            if (s->test[b] || fabs(short_by - size) >= fabs(short_by))
                continue;
            search_flip(s, b);
            /* Until the share is met only balance and loss per item gained count, else large blocks always
             * win. */
            double gap = s->share - (double)s->n_test / (double)s->n;
            double cost = search_cost(s) - 4.0 * gap * gap;
            search_flip(s, b);
            if (best < 0 || cost < best_cost) {
                best = b;
                best_cost = cost;
            }
        }
        if (best < 0)
            return;
        search_flip(s, best);
    }
}

static void search_improve(struct search *s, struct rng *r)
{
    double cost = search_cost(s);
    for (int k = 0; k < N_TRIES; k++) {
        int a = (int)rng_below(r, (uint32_t)s->n_blocks), b = (int)rng_below(r, (uint32_t)s->n_blocks);
        bool swap = s->test[a] != s->test[b];
        search_flip(s, a);
        if (swap)
            search_flip(s, b);
        double now = search_cost(s);
        if (now < cost && s->n_test_blocks > 0 && s->n_test_blocks < s->n_blocks) {
            cost = now;
            continue;
        }
        search_flip(s, a);
        if (swap)
            search_flip(s, b);
    }
}

/* Fills item/first and near/near_at. */
static bool search_lists(struct search *s, const double *x, const double *y, double buffer_m, struct err *e)
{
    struct grid g = {.order = NULL};
    uint32_t *stamp = NULL;
    size_t n_near = 0, room = 0;
    bool ok = false;
    for (size_t i = 0; i < s->n; i++)
        s->first[s->block[i] + 1]++;
    for (int b = 0; b < s->n_blocks; b++)
        s->first[b + 1] += s->first[b];
    for (int b = 0; b < s->n_blocks; b++)
        s->near_at[b] = s->first[b]; /* a cursor for now */
    for (size_t i = 0; i < s->n; i++)
        s->item[s->near_at[s->block[i]]++] = (uint32_t)i;
    memset(s->near_at, 0, (size_t)(s->n_blocks + 1) * sizeof *s->near_at);
    if (!(buffer_m > 0.0))
        return true;
    stamp = mem_array(s->n, sizeof *stamp, "the split's buffer", e);
    if (!stamp || !grid_make(&g, x, y, s->n, buffer_m, e))
        goto end;
    for (int b = 0; b < s->n_blocks; b++) {
        for (uint32_t k = s->first[b]; k < s->first[b + 1]; k++) {
            uint32_t i = s->item[k];
            int64_t key = g.key[g.cell_of[i]], row = key >> 31, column = key & INT32_MAX;
            for (int64_t dy = -1; dy <= 1; dy++) {
                size_t from, to;
                grid_row(&g, row + dy, column - 1, column + 1, &from, &to);
                for (uint32_t m = from < to ? g.first[from] : 0, end = from < to ? g.first[to] : 0; m < end;
                     m++) {
                    uint32_t j = g.order[m];
                    if (s->block[j] == b || stamp[j] == (uint32_t)b + 1 || !is_near(x, y, i, j, buffer_m))
                        continue;
                    stamp[j] = (uint32_t)b + 1;
                    if (n_near == room && !mem_grow(&s->near, room = room ? 2 * room : 1024, sizeof *s->near,
                                                    "the split's buffer", e))
                        goto end;
                    s->near[n_near++] = j;
                }
            }
        }
        if (n_near > UINT32_MAX) {
            err_set(e, ERR_USAGE, "a buffer of %g m reaches too many buildings; give a smaller one",
                    buffer_m);
            goto end;
        }
        s->near_at[b + 1] = (uint32_t)n_near;
    }
    ok = true;
end:
    free(stamp);
    grid_free(&g);
    return ok;
}

static void search_free(struct search *s)
{
    free(s->item);
    free(s->first);
    free(s->near);
    free(s->near_at);
    free(s->reach);
    free(s->test);
    free(s->have);
    free(s->taken);
}

static bool search_open(struct search *s, const double *x, const double *y, const int16_t *level,
                        int n_levels, const int32_t *block, size_t n, int n_blocks,
                        const struct split_options *o, struct err *e)
{
    static const char *const what = "the split's blocks";
    *s = (struct search){.n = n,
                         .n_blocks = n_blocks,
                         .n_levels = n_levels,
                         .share = o->test_share,
                         .block = block,
                         .level = level};
    s->item = mem_array(n, sizeof *s->item, what, e);
    s->first = mem_array((size_t)n_blocks + 1, sizeof *s->first, what, e);
    s->near_at = mem_array((size_t)n_blocks + 1, sizeof *s->near_at, what, e);
    s->reach = mem_array(n, sizeof *s->reach, what, e);
    s->test = mem_array((size_t)n_blocks, 1, what, e);
    s->have = mem_array((size_t)n_levels, sizeof *s->have, what, e);
    s->taken = mem_array((size_t)n_levels, sizeof *s->taken, what, e);
    if (!s->item || !s->first || !s->near_at || !s->reach || !s->test || !s->have || !s->taken)
        return false;
    for (size_t i = 0; i < n; i++)
        if (level[i] >= 0)
            s->have[level[i]]++;
    return search_lists(s, x, y, o->buffer_m, e);
}

static bool search_is_fair(const struct search *s)
{
    if (fabs((double)s->n_test / (double)s->n - s->share) > SHARE_OFF ||
        (double)s->n_dropped / (double)s->n > DROPPED)
        return false;
    for (int c = 0; c < s->n_levels; c++) {
        double have = (double)s->have[c], taken = (double)s->taken[c];
        if (taken < floor(0.5 * s->share * have) || have - taken < floor(0.5 * (1.0 - s->share) * have))
            return false;
    }
    return s->n_test_blocks > 0 && s->n_test_blocks < s->n_blocks;
}

static void search_clear(struct search *s)
{
    for (int b = 0; b < s->n_blocks; b++)
        if (s->test[b])
            search_flip(s, b);
}

/* Components: the first fair draw. False, with no block taken, when there is none. */
static bool search_draw(struct search *s, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, RNG_SPLIT, 0);
    for (int draw = 0; draw < N_DRAWS; draw++) {
        for (int b = 0; b < s->n_blocks; b++)
            if (rng_uniform(&r) < s->share)
                search_flip(s, b);
        if (search_is_fair(s))
            return true;
        search_clear(s);
    }
    return false;
}

/* Cells: the best of a few searches. */
static bool search_best(struct search *s, uint64_t seed, struct err *e)
{
    uint8_t *best = mem_array((size_t)s->n_blocks, 1, "the split's blocks", e);
    double best_cost = HUGE_VAL;
    if (!best)
        return false;
    for (uint64_t start = 0; start < N_STARTS; start++) {
        struct rng r;
        rng_init(&r, seed, RNG_SPLIT, start);
        search_greedy(s, &r);
        search_improve(s, &r);
        double cost = search_cost(s);
        if (cost < best_cost) {
            best_cost = cost;
            memcpy(best, s->test, (size_t)s->n_blocks);
        }
        search_clear(s);
    }
    for (int b = 0; b < s->n_blocks; b++)
        if (best[b])
            search_flip(s, b);
    free(best);
    return true;
}

/* Chooses the test blocks and writes split. */
static bool choose_blocks(struct search *s, bool components, uint64_t seed, uint8_t *split, struct err *e)
{
    if (!(components && search_draw(s, seed)) && !search_best(s, seed, e))
        return false;
    for (size_t i = 0; i < s->n; i++)
        split[i] = s->test[s->block[i]] ? IMAGESET_TEST : s->reach[i] ? IMAGESET_BUFFER : IMAGESET_TRAIN;
    return true;
}

/* Within each level a seeded shuffle; the nearest whole number of its items is the test part. Level n_levels
 * = unknown. */
static bool choose_items(const int16_t *level, int n_levels, size_t n, const struct split_options *o,
                         uint8_t *split, struct err *e)
{
    uint32_t *mine = mem_array(n, sizeof *mine, "the split", e);
    if (!mine)
        return false;
    for (int c = -1; c < n_levels; c++) {
        struct rng r;
        size_t m = 0;
        rng_init(&r, o->seed, RNG_SPLIT, (uint64_t)(c + 1) + N_STARTS);
        for (size_t i = 0; i < n; i++)
            if (level[i] == c)
                mine[m++] = (uint32_t)i;
        size_t n_test = (size_t)llround(o->test_share * (double)m);
        for (size_t k = m; k > 0; k--) {
            uint32_t j = rng_below(&r, (uint32_t)k), t = mine[j];
            mine[j] = mine[k - 1];
            split[t] = m - k < n_test ? IMAGESET_TEST : IMAGESET_TRAIN;
        }
    }
    free(mine);
    return true;
}

static bool check(const double *x, const double *y, size_t n, const struct split_options *o, struct err *e)
{
    if (!(o->link_m > 0.0) || !(o->block_m > 0.0) || !(o->buffer_m >= 0.0) ||
        !isfinite(o->link_m + o->block_m + o->buffer_m))
        return err_set(e, ERR_USAGE,
                       "link, block and buffer distances must be positive metres (got %g, %g and %g)",
                       o->link_m, o->block_m, o->buffer_m);
    if (!(o->test_share > 0.0 && o->test_share < 1.0))
        return err_set(e, ERR_USAGE, "a test share of %g makes no sense; give a number between 0 and 1",
                       o->test_share);
    if (n < 2 || n > INT32_MAX)
        return err_set(e, ERR_INPUT, "%zu buildings cannot be split into a training and a test part; give %s",
                       n, n < 2 ? "at least two" : "a smaller area");
    for (size_t i = 0; i < n; i++)
        if (!(fabs(x[i]) < 1e9 && fabs(y[i]) < 1e9))
            return err_set(
                e, ERR_INPUT,
                "building %zu lies at (%g, %g) m, which is no place on the working grid; repair its "
                "footprint",
                i + 1, x[i], y[i]);
    return true;
}

static int compare_i16(const void *a, const void *b)
{
    int16_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Levels become 0..C-1 in rising order, so that any small codes will do. Returns C; -1 without memory. */
static int dense_levels(const int16_t *level, size_t n, int16_t *dense, struct err *e)
{
    int16_t *seen = mem_array(n, sizeof *seen, "the split's levels", e);
    int n_levels = 0;
    if (!seen)
        return -1;
    memcpy(seen, level, n * sizeof *seen);
    qsort(seen, n, sizeof *seen, compare_i16);
    for (size_t i = 0; i < n; i++)
        if (seen[i] >= 0 && (n_levels == 0 || seen[i] != seen[n_levels - 1]))
            seen[n_levels++] = seen[i];
    for (size_t i = 0; i < n; i++) {
        int16_t *at =
            level[i] < 0 ? NULL : bsearch(&level[i], seen, (size_t)n_levels, sizeof *seen, compare_i16);
        dense[i] = at ? (int16_t)(at - seen) : -1;
    }
    free(seen);
    return n_levels;
}

static void report(const int32_t *block, const uint8_t *split, size_t n, uint8_t *has_test,
                   struct split_report *r)
{
    memset(has_test, 0, (size_t)r->n_blocks);
    r->n_test_blocks = 0;
    r->n_train = r->n_test = r->n_buffer = 0;
    for (size_t i = 0; i < n; i++) {
        r->n_train += split[i] == IMAGESET_TRAIN;
        r->n_test += split[i] == IMAGESET_TEST;
        r->n_buffer += split[i] == IMAGESET_BUFFER;
        if (split[i] == IMAGESET_TEST && !has_test[block[i]]) {
            has_test[block[i]] = 1;
            r->n_test_blocks++;
        }
    }
}

bool split_blocks(const double *x, const double *y, const int16_t *level, size_t n,
                  const struct split_options *o, int32_t *block, uint8_t *split, struct split_report *r,
                  struct err *e)
{
    struct search s = {.n = 0};
    uint8_t *has_test = NULL;
    int16_t *dense = NULL;
    size_t largest = 0;
    bool ok = false;
    *r = (struct split_report){0};
    if (!check(x, y, n, o, e))
        return false;
    dense = mem_array(n, sizeof *dense, "the split's levels", e);
    has_test = mem_array(n, 1, "the split's blocks", e);
    int n_levels = dense ? dense_levels(level, n, dense, e) : -1;
    if (!has_test || n_levels < 0)
        goto end;
    r->n_blocks = make_components(x, y, n, o->link_m, block, &largest, e);
    r->components = r->n_blocks >= MIN_COMPONENTS && largest <= n / 2;
    if (r->n_blocks && !r->components)
        r->n_blocks = make_cells(x, y, n, o->block_m, block, e);
    if (!r->n_blocks)
        goto end;
    if (o->random) {
        ok = choose_items(dense, n_levels, n, o, split, e);
    } else if (r->n_blocks < 2) {
        err_set(e, ERR_INPUT,
                "all %zu buildings lie in one block of %g m; give a smaller block distance or a larger area",
                n, o->block_m);
    } else {
        ok = search_open(&s, x, y, dense, n_levels, block, n, r->n_blocks, o, e) &&
             choose_blocks(&s, r->components, o->seed, split, e);
    }
    if (!ok)
        goto end;
    report(block, split, n, has_test, r);
    if (r->n_train == 0 || r->n_test == 0)
        ok = err_set(
            e, ERR_INPUT,
            "no %s building is left (%d blocks, buffer %g m); give a smaller buffer or block distance, "
            "or a larger area",
            r->n_train == 0 ? "training" : "test", r->n_blocks, o->buffer_m);
end:
    search_free(&s);
    free(has_test);
    free(dense);
    return ok;
}
