/* SPDX-License-Identifier: Apache-2.0
 *
 * scene_main.c - aftermap-scene: draws a town before and after a disaster, with known truth, to try aftermap
 * on and to test it with. A program of the samples, so it may end the process. Same seed and options: same
 * bytes, at any thread count. */
#include "samples/scene/scene.h"

#include <argp.h>
#include <errno.h>
#include <gdal.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *argp_program_version = "aftermap-scene " AM_VERSION;

enum {
    OPT_SIZE_PX = 256,
    OPT_SIZE_M,
    OPT_EVENT,
    OPT_PRE_GSD,
    OPT_POST_GSD,
    OPT_BITS,
    OPT_BANDS,
    OPT_THREADS
};

static const struct argp_option options[] = {
    {"output", 'o', "DIR", 0, "Write pre.tif, post.tif, footprints.gpkg and truth.json here (required)", 0},
    {"seed", 's', "N", 0, "Everything random follows from this number (1)", 0},
    {"size-px", OPT_SIZE_PX, "W[xH]", 0, "Size of the pre image in pixels (2000x2000)", 0},
    {"size-m", OPT_SIZE_M, "W[xH]", 0, "Size of the ground in metres, instead of --size-px", 0},
    {"buildings", 'n', "N", 0, "Number of footprints (700 a square kilometre)", 0},
    {"event", OPT_EVENT, "NAME", 0, "tornado, wildfire or mixed (tornado)", 0},
    {"pre-gsd", OPT_PRE_GSD, "METRES", 0, "Pixel size of the pre image (0.5)", 0},
    {"post-gsd", OPT_POST_GSD, "METRES", 0, "Pixel size of the post image (0.6)", 0},
    {"bits", OPT_BITS, "8|16", 0, "Bits a sample (8)", 0},
    {"bands", OPT_BANDS, "3|4", 0, "Red, green, blue, and with 4 near infrared (3)", 0},
    {"threads", OPT_THREADS, "N", 0, "Threads (all cores)", 0},
    {"quiet", 'q', NULL, 0, "Say nothing unless it fails", 0},
    {0}};

static const char doc[] =
    "Draws a SYNTHETIC town before and after a disaster, with known damage.\v"
    "The pre image is in UTM, the post image in degrees and at another resolution, taken from another angle "
    "under another "
    "sun in another season, and registered only to within four pixels. footprints.gpkg holds the "
    "outlines as digitised on the pre image with the true damage of each.";

static double number(const char *text, double lo, double hi, const char *name, struct argp_state *state)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || errno || !(v >= lo && v <= hi))
        argp_error(state, "%s: '%s' is no number from %g to %g", name, text, lo, hi);
    return v;
}

/* "W" or "WxH" */
static void pair(char *text, double lo, double hi, const char *name, double out[2], struct argp_state *state)
{
    char *x = strchr(text, 'x');
    if (x)
        *x = 0;
    out[0] = number(text, lo, hi, name, state);
    out[1] = x ? number(x + 1, lo, hi, name, state) : out[0];
}

struct arguments {
    struct scene_options o;
    double size_px[2], size_m[2];
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case 'o':
        a->o.out = arg;
        break;
    case 's': {
        char *end;
        errno = 0;
        a->o.seed = strtoull(arg, &end, 10);
        if (end == arg || *end || errno || *arg == '-')
            argp_error(state, "--seed: '%s' is no whole number of at most 64 bits", arg);
        break;
    }
    case OPT_SIZE_PX:
        pair(arg, 300, 100000, "--size-px", a->size_px, state);
        break;
    case OPT_SIZE_M:
        pair(arg, 150, 60000, "--size-m", a->size_m, state);
        break;
    case 'n':
        a->o.n_buildings = (int)number(arg, 1, 5000000, "--buildings", state);
        break;
    case OPT_EVENT:
        if (strcmp(arg, "tornado") && strcmp(arg, "wildfire") && strcmp(arg, "mixed"))
            argp_error(state, "--event: '%s' is none of tornado, wildfire, mixed", arg);
        a->o.event = *arg == 't' ? SCENE_TORNADO : *arg == 'w' ? SCENE_WILDFIRE : SCENE_MIXED;
        break;
    case OPT_PRE_GSD:
        a->o.gsd[PRE] = number(arg, 0.2, 2, "--pre-gsd", state);
        break;
    case OPT_POST_GSD:
        a->o.gsd[POST] = number(arg, 0.2, 2, "--post-gsd", state);
        break;
    case OPT_BITS:
        a->o.bits = (int)number(arg, 8, 16, "--bits", state);
        if (a->o.bits != 8 && a->o.bits != 16)
            argp_error(state, "--bits: 8 or 16");
        break;
    case OPT_BANDS:
        a->o.bands = (int)number(arg, 3, 4, "--bands", state);
        break;
    case OPT_THREADS:
        a->o.threads = (int)number(arg, 1, 256, "--threads", state);
        break;
    case 'q':
        a->o.quiet = true;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        break;
    case ARGP_KEY_END:
        if (!a->o.out)
            argp_error(state, "say where to write: -o DIR");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct arguments a = {.o = {.seed = 1, .event = SCENE_TORNADO, .gsd = {0.5, 0.6}, .bits = 8, .bands = 3},
                          .size_px = {2000, 2000}};
    static const struct argp parser = {options, parse, NULL, doc, NULL, NULL, NULL};
    argp_err_exit_status = err_exit_status(ERR_USAGE);
    argp_parse(&parser, argc, argv, 0, NULL, &a);
    struct scene_options *o = &a.o;
    for (int k = 0; k < 2; k++) {
        o->size_px[k] = (int)(a.size_m[k] > 0 ? ceil(a.size_m[k] / o->gsd[PRE]) : a.size_px[k]);
        o->size_m[k] = o->size_px[k] * o->gsd[PRE];
    }
    if (!o->n_buildings)
        o->n_buildings = (int)ceil(700e-6 * o->size_m[0] * o->size_m[1]);
    if (!o->threads)
        o->threads = omp_get_max_threads();

    GDALAllRegister();
    GDALSetCacheMax64(64 << 20); /* a strip is written once and never read: more would only hold memory */
    CPLSetErrorHandler(CPLQuietErrorHandler);
    struct scene s;
    struct err e = {0};
    bool ok = scene_build(&s, o, &e) && scene_write(&s, &e);
    scene_free(&s);
    if (!ok)
        fprintf(stderr, "aftermap-scene: %s\n", e.msg);
    return ok ? 0 : err_exit_status(e.code);
}
