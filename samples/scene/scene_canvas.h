/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_canvas.h - one tile under the brush: a block of pixels with the ground position of each, and
 * soft-edged shapes.
 *
 * Shapes are signed distances in metres (negative inside); a pixel takes a shape's colour in proportion to
 * how far its centre lies inside the edge, which anti-aliases without supersampling. A canvas has a margin
 * around the tile wide enough for the sensor's blur, so neighbouring tiles agree along their seam. */
#ifndef AM_SCENE_CANVAS_H
#define AM_SCENE_CANVAS_H

#include "samples/scene/scene.h"
#include "samples/scene/scene_noise.h"

enum { CANVAS_TILE = 256, CANVAS_MARGIN = 4, CANVAS_STEP = 8, CANVAS_SIDE = CANVAS_TILE + 2 * CANVAS_MARGIN };

struct canvas {
    const struct scene *s;
    const struct scene_date *d;
    int date;     /* PRE or POST */
    int px0, py0; /* image position of canvas pixel (0, 0) */
    float gsd;
    float to_px[2][3]; /* ground -> canvas pixel, affine, good to a pixel or two: for bounding boxes */
    float reach_x[2], reach_y[2]; /* ground bounds */
    float *gx, *gy;               /* ground position of each pixel centre, m */
    float *su, *sv;               /* its street frame position */
    float *ix, *iy;               /* where it lies in image space, m: ground + shift */
    px4 *color;
    float *dark;      /* shadow on the ground, 0..1 */
    float *dark_tree; /* the part of it that trees cast: it falls on roofs too */
};

struct canvas_box {
    int x0, y0, x1, y1; /* canvas pixels, end exclusive */
};

/* Geometry of an image: maps image pixels to positions in image space (ground metres before the registration
 * shift). */
struct frame {
    int width, height;
    int lattice_nx;  /* nodes each CANVAS_TILE pixels, one more than tiles */
    double *lattice; /* [ny][nx][2]: x, y of the node in metres */
};

bool canvas_open(struct canvas *c, struct err *e); /* allocates the planes */
void canvas_close(struct canvas *c);
/* Aims the canvas at a tile and computes every pixel's position. */
void canvas_aim(struct canvas *c, const struct scene *s, const struct frame *f, int date, int tile_x,
                int tile_y);

/* Pixels within r metres of a ground point; false when none. */
bool canvas_bounds(const struct canvas *c, float x, float y, float r, struct canvas_box *b);

/* Objects whose centres lie within `reach` of the canvas, in a fixed order; calls paint for each. */
typedef void canvas_paint_fn(struct canvas *c, uint32_t item);
void canvas_each(struct canvas *c, const struct cell_index *index, float reach, canvas_paint_fn *paint);

static inline float canvas_cover(const struct canvas *c, float distance)
{
    return noise_clamp(0.5f - distance / c->gsd);
}

static inline float canvas_rect(float lx, float ly, float hw, float hd)
{
    float ax = fabsf(lx) - hw, ay = fabsf(ly) - hd;
    return ax > ay ? ax : ay;
}

/* A rotated rectangle in one colour, lifted by z metres. lit scales the colour. */
void canvas_fill_rect(struct canvas *c, float x, float y, float cs, float sn, float hw, float hd, px4 color,
                      float alpha);
void canvas_fill_disc(struct canvas *c, float x, float y, float r, px4 color, float alpha);
/* Convex hull of n <= 16 points, as colour or as shadow. */
void canvas_fill_hull(struct canvas *c, float (*points)[2], int n, px4 color, float alpha);
void canvas_shade_hull(struct canvas *c, float (*points)[2], int n, float alpha, bool tree);

/* Painters: scene_ground.c, scene_house.c, scene_wreck.c, scene_plants.c. Called in this order by
 * canvas_paint(). */
void canvas_paint(struct canvas *c);
bool ground_is_street(const struct scene *s, float x, float y);
void paint_ground(struct canvas *c);
void paint_yards(struct canvas *c);
void paint_cars(struct canvas *c);
void paint_ground_debris(struct canvas *c);
void paint_wrecks(struct canvas *c);
void paint_house_shadows(struct canvas *c);
void paint_tree_shadows(struct canvas *c);
void paint_houses(struct canvas *c);
void paint_trees(struct canvas *c);

/* Debris of a house that lies on the ground or on its own roof; used by scene_house.c as well. */
px4 wreck_piece_color(uint32_t h, bool fire);
/* Rooms seen from above, in the house frame. walls, clutter: shares of them left standing and strewn. */
px4 house_interior(const struct house *h, float lx, float ly, float walls, float clutter, bool burnt);

#endif
