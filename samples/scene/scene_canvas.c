/* SPDX-License-Identifier: Apache-2.0
 * scene_canvas.c - positions of a tile's pixels, bounding boxes, and the few shapes everything is drawn from.
 */
#include "samples/scene/scene_canvas.h"
#include "models/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = CANVAS_SIDE, AREA = CANVAS_SIDE * CANVAS_SIDE };

bool canvas_open(struct canvas *c, struct err *e)
{
    memset(c, 0, sizeof *c);
    float **planes[] = {&c->gx, &c->gy, &c->su, &c->sv, &c->ix, &c->iy, &c->dark, &c->dark_tree};
    for (size_t i = 0; i < sizeof planes / sizeof *planes; i++)
        if (!(*planes[i] = mem_array(AREA, sizeof(float), "canvas", e)))
            goto fail;
    /* aligned_alloc: vector loads need 16 bytes, which malloc grants here but mem_array does not promise */
    c->color = aligned_alloc(64, (AREA * sizeof(px4) + 63) / 64 * 64);
    if (c->color)
        return true;
    err_set(e, ERR_RESOURCE, "out of memory for a canvas");
fail:
    canvas_close(c);
    return false;
}

void canvas_close(struct canvas *c)
{
    free(c->gx);
    free(c->gy);
    free(c->su);
    free(c->sv);
    free(c->ix);
    free(c->iy);
    free(c->dark);
    free(c->dark_tree);
    free(c->color);
    memset(c, 0, sizeof *c);
}

/* Position in image space of a (fractional) image pixel: bilinear between lattice nodes, extrapolated at the
 * rim. */
static void frame_at(const struct frame *f, double px, double py, double at[2])
{
    int nx = f->lattice_nx, ny = (f->height + CANVAS_TILE - 1) / CANVAS_TILE + 1;
    int i = (int)(px / CANVAS_TILE), j = (int)(py / CANVAS_TILE);
    i = px < 0 ? 0 : i > nx - 2 ? nx - 2 : i;
    j = py < 0 ? 0 : j > ny - 2 ? ny - 2 : j;
    double tx = px / CANVAS_TILE - i, ty = py / CANVAS_TILE - j;
    const double *a = f->lattice + 2 * ((size_t)j * nx + i), *b = a + 2 * nx;
    for (int k = 0; k < 2; k++)
        at[k] = (a[k] * (1 - tx) + a[2 + k] * tx) * (1 - ty) + (b[k] * (1 - tx) + b[2 + k] * tx) * ty;
}

/* The six positions of a pixel, computed at lattice points CANVAS_STEP pixels apart; everything is smooth
 * over 4 m. */
static void lattice_point(const struct canvas *c, const struct frame *f, int x, int y, float out[6])
{
    double at[2];
    frame_at(f, c->px0 + x + 0.5, c->py0 + y + 0.5, at);
    float shift[2] = {0, 0};
    if (c->date == POST)
        scene_shift(c->s, (float)at[0], (float)at[1], shift);
    out[4] = (float)at[0];
    out[5] = (float)at[1];
    out[0] = out[4] - shift[0];
    out[1] = out[5] - shift[1];
    town_to_streets(c->s, out[0], out[1], &out[2], &out[3]);
}

static void fill_positions(struct canvas *c, const struct frame *f)
{
    enum { N = CANVAS_SIDE / CANVAS_STEP + 2 };
    static _Thread_local float node[N][N][6];
    for (int j = 0; j < N; j++)
        for (int i = 0; i < N; i++)
            lattice_point(c, f, i * CANVAS_STEP, j * CANVAS_STEP, node[j][i]);
    float *plane[6] = {c->gx, c->gy, c->su, c->sv, c->ix, c->iy};
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int i = x / CANVAS_STEP, j = y / CANVAS_STEP;
            float tx = (float)(x % CANVAS_STEP) / CANVAS_STEP, ty = (float)(y % CANVAS_STEP) / CANVAS_STEP;
            for (int k = 0; k < 6; k++) {
                float a = node[j][i][k] + (node[j][i + 1][k] - node[j][i][k]) * tx;
                float b = node[j + 1][i][k] + (node[j + 1][i + 1][k] - node[j + 1][i][k]) * tx;
                plane[k][y * SIDE + x] = a + (b - a) * ty;
            }
        }
}

void canvas_aim(struct canvas *c, const struct scene *s, const struct frame *f, int date, int tile_x,
                int tile_y)
{
    c->s = s;
    c->d = &s->date[date];
    c->date = date;
    c->px0 = tile_x * CANVAS_TILE - CANVAS_MARGIN;
    c->py0 = tile_y * CANVAS_TILE - CANVAS_MARGIN;
    fill_positions(c, f);
    const int last = SIDE - 1;
    const float span = (float)last;
    const float *gx = c->gx, *gy = c->gy;
    float ax = (gx[last] - gx[0]) / span, ay = (gy[last] - gy[0]) / span;
    float bx = (gx[last * SIDE] - gx[0]) / span, by = (gy[last * SIDE] - gy[0]) / span;
    float det = ax * by - ay * bx;
    c->gsd = sqrtf(fabsf(det));
    c->to_px[0][0] = by / det;
    c->to_px[0][1] = -bx / det;
    c->to_px[1][0] = -ay / det;
    c->to_px[1][1] = ax / det;
    for (int k = 0; k < 2; k++)
        c->to_px[k][2] = -(c->to_px[k][0] * gx[0] + c->to_px[k][1] * gy[0]);
    c->reach_x[0] = c->reach_x[1] = gx[0];
    c->reach_y[0] = c->reach_y[1] = gy[0];
    for (int i = 0; i < AREA; i++) {
        c->reach_x[0] = fminf(c->reach_x[0], gx[i]);
        c->reach_x[1] = fmaxf(c->reach_x[1], gx[i]);
        c->reach_y[0] = fminf(c->reach_y[0], gy[i]);
        c->reach_y[1] = fmaxf(c->reach_y[1], gy[i]);
    }
    memset(c->dark, 0, AREA * sizeof *c->dark);
    memset(c->dark_tree, 0, AREA * sizeof *c->dark_tree);
}

bool canvas_bounds(const struct canvas *c, float x, float y, float r, struct canvas_box *b)
{
    float px = c->to_px[0][0] * x + c->to_px[0][1] * y + c->to_px[0][2];
    float py = c->to_px[1][0] * x + c->to_px[1][1] * y + c->to_px[1][2];
    float rx = r * (fabsf(c->to_px[0][0]) + fabsf(c->to_px[0][1])) + 3.0f;
    float ry = r * (fabsf(c->to_px[1][0]) + fabsf(c->to_px[1][1])) + 3.0f;
    b->x0 = px - rx < 0 ? 0 : px - rx > SIDE ? SIDE : (int)(px - rx);
    b->y0 = py - ry < 0 ? 0 : py - ry > SIDE ? SIDE : (int)(py - ry);
    b->x1 = px + rx < 0 ? 0 : px + rx > SIDE ? SIDE : (int)(px + rx) + 1;
    b->y1 = py + ry < 0 ? 0 : py + ry > SIDE ? SIDE : (int)(py + ry) + 1;
    b->x1 = b->x1 > SIDE ? SIDE : b->x1;
    b->y1 = b->y1 > SIDE ? SIDE : b->y1;
    return b->x0 < b->x1 && b->y0 < b->y1;
}

void canvas_each(struct canvas *c, const struct cell_index *index, float reach, canvas_paint_fn *paint)
{
    int x0 = (int)floorf((c->reach_x[0] - reach) / index->cell_m),
        x1 = (int)((c->reach_x[1] + reach) / index->cell_m);
    int y0 = (int)floorf((c->reach_y[0] - reach) / index->cell_m),
        y1 = (int)((c->reach_y[1] + reach) / index->cell_m);
    x0 = x0 < 0 ? 0 : x0;
    y0 = y0 < 0 ? 0 : y0;
    for (int y = y0; y <= y1 && y < index->ny; y++)
        for (int x = x0; x <= x1 && x < index->nx; x++) {
            size_t cell = (size_t)y * index->nx + x;
            for (uint32_t k = index->start[cell]; k < index->start[cell + 1]; k++)
                paint(c, index->item[k]);
        }
}

void canvas_fill_rect(struct canvas *c, float x, float y, float cs, float sn, float hw, float hd, px4 color,
                      float alpha)
{
    struct canvas_box b;
    if (!canvas_bounds(c, x, y, hypotf(hw, hd), &b))
        return;
    /* a shape thinner than a pixel covers only part of it */
    float thin = fminf(1.0f, 2.0f * hw / c->gsd) * fminf(1.0f, 2.0f * hd / c->gsd);
    float half = 0.5f * c->gsd;
    hw = fmaxf(hw, half);
    hd = fmaxf(hd, half);
    for (int j = b.y0; j < b.y1; j++)
        for (int i = b.x0; i < b.x1; i++) {
            int k = j * SIDE + i;
            float dx = c->gx[k] - x, dy = c->gy[k] - y;
            float a =
                canvas_cover(c, canvas_rect(dx * cs + dy * sn, dy * cs - dx * sn, hw, hd)) * alpha * thin;
            if (a > 0.0f)
                c->color[k] = px4_mix(c->color[k], color, a);
        }
}

void canvas_fill_disc(struct canvas *c, float x, float y, float r, px4 color, float alpha)
{
    struct canvas_box b;
    if (!canvas_bounds(c, x, y, r, &b))
        return;
    for (int j = b.y0; j < b.y1; j++)
        for (int i = b.x0; i < b.x1; i++) {
            int k = j * SIDE + i;
            float a = canvas_cover(c, hypotf(c->gx[k] - x, c->gy[k] - y) - r) * alpha;
            if (a > 0.0f)
                c->color[k] = px4_mix(c->color[k], color, a);
        }
}

/* Andrew's monotone chain; sorts points in place, returns the hull's corners in order. */
static int convex_hull(float (*p)[2], int n, float hull[34][2])
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && (p[j][0] < p[j - 1][0] || (p[j][0] == p[j - 1][0] && p[j][1] < p[j - 1][1]));
             j--)
            for (int k = 0; k < 2; k++) {
                float t = p[j][k];
                p[j][k] = p[j - 1][k];
                p[j - 1][k] = t;
            }
    int m = 0;
    for (int pass = 0; pass < 2; pass++) {
        int first = m + 1;
        for (int i = 0; i < n; i++) {
            const float *q = p[pass ? n - 1 - i : i];
            while (m > first && (hull[m - 1][0] - hull[m - 2][0]) * (q[1] - hull[m - 2][1]) -
                                        (hull[m - 1][1] - hull[m - 2][1]) * (q[0] - hull[m - 2][0]) <=
                                    0.0f)
                m--;
            hull[m][0] = q[0];
            hull[m++][1] = q[1];
        }
        m--;
    }
    return m;
}

/* Calls for each pixel the hull covers: colour when `dark` is NULL, else shadow. */
static void fill_hull(struct canvas *c, float (*points)[2], int n, px4 color, float alpha, float *dark)
{
    float hull[34][2], edge[34][3], x0 = 1e30f, x1 = -1e30f, y0 = 1e30f, y1 = -1e30f;
    int m = convex_hull(points, n, hull);
    for (int i = 0; i < m; i++) {
        const float *p = hull[i], *q = hull[(i + 1) % m];
        float nx = q[1] - p[1], ny = p[0] - q[0], len = hypotf(nx, ny) + 1e-9f;
        edge[i][0] = nx / len;
        edge[i][1] = ny / len;
        edge[i][2] = -(edge[i][0] * p[0] + edge[i][1] * p[1]);
        x0 = fminf(x0, p[0]);
        x1 = fmaxf(x1, p[0]);
        y0 = fminf(y0, p[1]);
        y1 = fmaxf(y1, p[1]);
    }
    struct canvas_box b;
    if (m < 3 || !canvas_bounds(c, 0.5f * (x0 + x1), 0.5f * (y0 + y1), 0.5f * fmaxf(x1 - x0, y1 - y0), &b))
        return;
    for (int j = b.y0; j < b.y1; j++)
        for (int i = b.x0; i < b.x1; i++) {
            int k = j * SIDE + i;
            float sd = -1e30f;
            for (int q = 0; q < m; q++)
                sd = fmaxf(sd, edge[q][0] * c->gx[k] + edge[q][1] * c->gy[k] + edge[q][2]);
            float a = canvas_cover(c, sd) * alpha;
            if (a <= 0.0f)
                continue;
            if (dark)
                dark[k] = fmaxf(dark[k], a);
            else
                c->color[k] = px4_mix(c->color[k], color, a);
        }
}

void canvas_fill_hull(struct canvas *c, float (*points)[2], int n, px4 color, float alpha)
{
    fill_hull(c, points, n, color, alpha, NULL);
}

void canvas_shade_hull(struct canvas *c, float (*points)[2], int n, float alpha, bool tree)
{
    fill_hull(c, points, n, px4_of(0, 0, 0, 0), alpha, tree ? c->dark_tree : c->dark);
}

/* Light that is left in full shadow: skylight, bluish. */
static void apply_shadows(struct canvas *c)
{
    px4 rest = c->d->ambient * px4_of(0.92f, 1.0f, 1.18f, 0.8f);
    for (int k = 0; k < AREA; k++) {
        float dark = fmaxf(c->dark[k], c->dark_tree[k]);
        c->color[k] *= px4_mix(px4_of(1, 1, 1, 1), rest, dark);
    }
}

void canvas_paint(struct canvas *c)
{
    paint_ground(c);
    paint_yards(c);
    paint_wrecks(c);
    paint_ground_debris(c);
    paint_cars(c);
    paint_house_shadows(c);
    paint_tree_shadows(c);
    apply_shadows(c);
    paint_houses(c);
    paint_trees(c);
}
