/* SPDX-License-Identifier: Apache-2.0
 *
 * scene.h - what the scene maker knows of its town: streets, buildings, trees, cars, the disaster, and how
 * each date was photographed. scene_town.c lays the town out, scene_damage.c lets the disaster pass,
 * scene_ground.c, scene_house.c and scene_wreck.c paint it on a canvas (scene_canvas.h), scene_sensor.c
 * photographs it, scene_output.c writes the files.
 *
 * Frames. Ground: metres, x east, y south, origin at the north-west corner of the pre image. Street frame (u,
 * v): the ground turned by `turn` and bent by smooth noise, so that streets, straight lines of constant u or
 * v, become curves. House frame: metres, x along the street, y away from it. Colours: four floats (red,
 * green, blue, near infrared), reflectance-like, 1 = a white sheet lit by the sun.
 *
 * Ownership: struct scene owns every array; scene_free() releases them. Threads: after scene_build() it is
 * read-only. */
#ifndef AM_SCENE_H
#define AM_SCENE_H

#include "models/base/err.h"
#include "models/base/rng.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef float px4 __attribute__((vector_size(16)));

static inline px4 px4_of(float r, float g, float b, float n)
{
    return (px4){r, g, b, n};
}

static inline px4 px4_mix(px4 a, px4 b, float t)
{
    return a + (b - a) * t;
}

/* Random streams, RNG_SCENE + k. */
enum scene_stream {
    STREAM_SALT = RNG_SCENE,
    STREAM_SENSOR,
    STREAM_STREETS,
    STREAM_BLOCKS,
    STREAM_HOUSES,
    STREAM_TREES,
    STREAM_CARS,
    STREAM_DISASTER,
    STREAM_DAMAGE,
    STREAM_WRECK,
    STREAM_CLOUDS,
    STREAM_OUTLINES
};

/* One number per texture. */
enum scene_salt {
    SALT_WARP_U,
    SALT_WARP_V,
    SALT_URBAN,
    SALT_GROUND,
    SALT_GRAIN,
    SALT_ROAD,
    SALT_ROOF,
    SALT_TREE,
    SALT_HIT,
    SALT_STREWN,
    SALT_FIRE,
    SALT_SHIFT_X,
    SALT_SHIFT_Y,
    SALT_HAZE,
    SALT_CLOUD,
    SALT_NOISE,
    SALT_COUNT
};

enum scene_event { SCENE_TORNADO, SCENE_WILDFIRE, SCENE_MIXED };
enum { PRE, POST };
enum { LEVEL_NONE, LEVEL_MINOR, LEVEL_MAJOR, LEVEL_DESTROYED };

struct scene_options {
    uint64_t seed;
    int size_px[2]; /* of the pre image */
    double size_m[2];
    int n_buildings;
    enum scene_event event;
    double gsd[2];
    int bits, bands;
    int threads;
    bool quiet;
    const char *out;
};

/* How one date was taken. */
struct scene_date {
    float sun[3];           /* unit vector towards the sun: x east, y south, z up */
    float shadow[2];        /* ground shift of a shadow per metre of height */
    float lean[2];          /* shift of an object's top per metre of height (off-nadir view) */
    float ambient;          /* share of light that reaches a shadow */
    float dryness;          /* 0 lush .. 1 parched */
    float leaf_off;         /* share of deciduous trees without leaves */
    float gain[4], veil[4]; /* sensor = veil + gain * colour^gamma */
    float gamma, blur_px, noise_sd, saturation;
    float edge[2][3]; /* nodata wedges: blank where edge[k] . (x, y, 1) > 0 */
};

enum block_kind { BLOCK_HOMES, BLOCK_SHOPS, BLOCK_PARK, BLOCK_CROP, BLOCK_MEADOW, BLOCK_WOOD, BLOCK_SITE };

struct block {
    uint8_t kind, n_lots;
    uint8_t street_top, street_left; /* is the street on the low-v / low-u side built */
    uint32_t hash;
    float angle; /* of crop rows */
};

struct town {
    float turn_cos, turn_sin, center[2], bend;
    int n_u, n_v;
    float *u, *v;           /* street lines, ascending */
    float *half_u, *half_v; /* half widths, m */
    struct block *block;    /* [(n_v - 1) * (n_u - 1)], row = v */
};

enum roof_shape { ROOF_GABLE, ROOF_HIP, ROOF_FLAT };
enum roof_cover { COVER_SHINGLE, COVER_TILE, COVER_METAL, COVER_GRAVEL, COVER_BARE };

struct part {
    float cx, cy, hw, hd; /* centre and half sizes in the house frame */
    float rise;           /* slope: metres up per metre in */
    uint8_t shape;
    bool along_x; /* ridge direction of a gable */
};

enum house_note { NOTE_STANDING, NOTE_NEW, NOTE_GONE, NOTE_SITE, NOTE_REROOFED };
enum wreck_style { WRECK_PILE, WRECK_WALLS, WRECK_SLAB, WRECK_FOLDED, WRECK_ASH };

struct house {
    float x, y, cs, sn, radius;
    struct part part[3];
    int n_parts;
    float eave; /* m */
    uint8_t cover[2];
    px4 roof[2], wall;
    uint8_t present[2]; /* standing on that date, whatever its damage */
    uint8_t level, note, fire, style, tarps;
    float hit;                        /* strength of the disaster here, 0..1 */
    float wind[2];                    /* unit vector of the debris throw */
    float drive_x, drive_hw, drive_y; /* driveway: centre, half width, its far end (negative y) */
    float pool[4];                    /* centre, half sizes; 0 = none */
    float shed[2];                    /* centre; 0 = none */
    uint8_t junk[2];                  /* pieces of clutter in the yard on each date */
    uint32_t hash;
    bool big; /* commercial */
};

enum tree_state { TREE_LEAFY, TREE_BARE, TREE_FELLED, TREE_BURNT, TREE_BROWN, TREE_ABSENT };

struct tree {
    float x, y, r, height;
    uint32_t hash;
    uint8_t conifer, state[2];
};

struct car {
    float x, y, cs, sn;
    uint32_t hash;
    uint8_t dates; /* bit d: there on date d */
};

struct track {
    float x0, y0, dx, dy, length, bow, width; /* start, direction, curvature, half width */
};

struct cloud {
    float x, y, r;
};

/* Objects by cell, so that a tile finds its own. Items of a cell are item[start[c] .. start[c+1]). */
struct cell_index {
    float cell_m;
    int nx, ny;
    uint32_t *start, *item;
};

struct scene {
    struct scene_options o;
    uint32_t salt[SALT_COUNT];
    struct scene_date date[2];
    struct town town;
    struct house *house;
    size_t n_houses;
    struct tree *tree;
    size_t n_trees;
    struct car *car;
    size_t n_cars;
    struct cell_index houses, trees, cars;
    struct track track[8];
    int n_tracks;
    float fire_level;   /* noise above this burns; > 1 = no fire */
    float fire_from[3]; /* half plane a*x + b*y + c > 0 in which fires may burn */
    struct cloud *cloud;
    int n_clouds;
    float shift_bias[2], shift_range; /* registration of the post image, m */
};

/* Lays out everything. On failure scene_free() may still be called. */
bool scene_build(struct scene *s, const struct scene_options *o, struct err *e);
void scene_free(struct scene *s); /* accepts a zeroed record */

/* scene_town.c */
bool town_build(struct scene *s, struct err *e);
void town_to_streets(const struct scene *s, float x, float y, float *u, float *v);
void town_to_ground(const struct scene *s, float u, float v, float *x, float *y);
/* Block that holds (u, v); NULL outside the town's frame. i, j: its column and row. */
const struct block *town_block(const struct scene *s, float u, float v, int *i, int *j);

/* scene_people.c: what stands in the blocks */
bool town_populate(struct scene *s, struct err *e);

/* scene_damage.c */
void damage_plan(struct scene *s);
float damage_wind(const struct scene *s, float x, float y);   /* tornado strength, 0..1 */
float damage_strewn(const struct scene *s, float x, float y); /* density of blown debris, 0..1 */
float damage_fire(const struct scene *s, float x, float y);   /* burnt ground, 0..1 */
void damage_house(struct scene *s, struct house *h, uint64_t index);
uint8_t damage_tree(const struct scene *s, const struct tree *t);

/* Registration: a ground point g is seen at g + shift in the post image; here as a function of where it is
 * seen. */
void scene_shift(const struct scene *s, float x, float y, float shift[2]);
/* Where the post image shows the ground point (x, y). */
void scene_seen_at(const struct scene *s, float x, float y, float at[2]);
/* Cloud cover over a point of a date's image, 0..1; shade: how much of the sun a cloud takes away there. */
float scene_cloud(const struct scene *s, int date, float x, float y, float *shade);
bool scene_blank(const struct scene *s, int date, float x, float y);

float house_top(const struct house *h); /* mean height of the roof, m */

/* scene_output.c */
bool scene_write(const struct scene *s, struct err *e);

#endif
