/* SPDX-License-Identifier: Apache-2.0
 *
 * test_lag.c - the Latent Adversarial Generator. Networks and losses are built here a second time in double, under
 * other names, and every gradient is held against central differences, the gradient penalty's second-order path
 * among them; the program's float build is held against the double one. Then the invariants of the specification:
 * published sizes, equalised layers, fading, the residual's steps, the box mean, a run and its files. */
#define lagnet_config_defaults lagnet64_config_defaults
#define lagnet_config_check lagnet64_config_check
#define lagnet_width lagnet64_width
#define lagnet_create lagnet64_create
#define lagnet_free lagnet64_free
#define lagnet_bytes lagnet64_bytes
#define lagnet_list lagnet64_list
#define lagnet_init lagnet64_init
#define lagnet_load lagnet64_load
#define lagnet_forward lagnet64_forward
#define lagnet_backward lagnet64_backward
#define lagnet_tangent lagnet64_tangent
#define lag_step_open lag64_step_open
#define lag_step_close lag64_step_close
#define lag_step_bytes lag64_step_bytes
#define lag_step_run lag64_step_run
#define lag_halve lag64_halve
#define lag_fade lag64_fade
#include "tests/unit/unet_double.h"

#include "models/learn/lag_step.c"
#include "models/net/lagnet.c"

#undef lag_step_open
#undef lag_step_close
#undef lag_step_run
#undef lag_halve

/* The library's build, in float. */
bool lag_step_open(struct lag_step *s, const struct lagnet_config *net, int stage, int batch, struct err *e);
void lag_step_close(struct lag_step *s);
void lag_step_run(struct lag_step *s, const float *g_values, const float *d_values, const float *x,
                  const float *y, const float *z, const float *u, double alpha, double ttur, float *g_grads,
                  float *d_grads, struct lag_losses *losses);

#include "models/base/file.h"
#include "models/learn/lag.h"

#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static const struct lagnet_config small = {
    .size = 2, .n_stages = 2, .n_colors = 2, .n_noise = 2, .width = 6, .narrow = 3, .n_blocks = 2};

static double *numbers(size_t n, uint64_t seed, double sd)
{
    double *v = calloc(n ? n : 1, sizeof *v);
    struct rng r;
    assert_non_null(v);
    rng_init(&r, seed, RNG_METHOD, 0);
    for (size_t i = 0; i < n; i++)
        v[i] = sd * rng_normal(&r);
    return v;
}

static size_t count_of(const struct lagnet_config *c, enum lagnet_kind kind, int stage)
{
    struct unet_tensor t[LAGNET_MAX_TENSORS];
    size_t first[LAGNET_MAX_STAGES + 2];
    assert_true(lagnet_list(c, kind, stage, t, first) > 0);
    return first[stage + 1];
}

/* ---- gradients against finite differences ---- */

enum { BATCH = 2 };

struct problem {
    struct lag_step s;
    size_t n[2];                  /* weights of generator and critic at the stage */
    double *values[2], *grads[2]; /* raw */
    double *x, *y, *z, *u, alpha, ttur;
    struct lag_losses losses;
};

static struct problem problem_new(int stage, double alpha)
{
    struct err e = {0};
    struct problem p = {.alpha = alpha, .ttur = 4};
    assert_true(lag64_step_open(&p.s, &small, stage, BATCH, &e));
    for (int k = 0; k < 2; k++) {
        p.n[k] = count_of(&small, (enum lagnet_kind)k, stage);
        p.values[k] = numbers(p.n[k], 1 + (uint64_t)k, 0.8); /* biases loud as well */
        p.grads[k] = numbers(p.n[k], 3, 1);                  /* rubbish that a step overwrites */
    }
    p.x = numbers(BATCH * p.s.image, 5, 0.5);
    p.y = calloc(BATCH * p.s.small, sizeof *p.y);
    assert_non_null(p.y);
    for (int b = 0; b < BATCH; b++) {
        double *work = calloc(p.s.image, sizeof *work);
        assert_non_null(work);
        memcpy(work, p.x + b * p.s.image, p.s.image * sizeof *work);
        for (int s = stage; s > 0; s--)
            lag64_halve(work, small.size << s, small.n_colors, work);
        memcpy(p.y + b * p.s.small, work, p.s.small * sizeof *work);
        free(work);
    }
    p.z = numbers(BATCH * p.s.latent, 6, 1);
    p.u = calloc(BATCH, sizeof *p.u);
    assert_non_null(p.u);
    p.u[0] = 0.3;
    p.u[1] = 0.85;
    return p;
}

static void problem_free(struct problem *p)
{
    lag64_step_close(&p->s);
    for (int k = 0; k < 2; k++) {
        free(p->values[k]);
        free(p->grads[k]);
    }
    free(p->x);
    free(p->y);
    free(p->z);
    free(p->u);
}

static void run_step(struct problem *p, double *g_grads, double *d_grads)
{
    lag64_step_run(&p->s, p->values[0], p->values[1], p->x, p->y, p->z, p->u, p->alpha, p->ttur, g_grads,
                   d_grads, &p->losses);
}

/* kind 0: L_G; 1: ttur L_D; 2: its penalty alone. */
static double loss_of(struct problem *p, int kind)
{
    static double rest[2][20000];
    run_step(p, rest[0], rest[1]);
    const struct lag_losses *l = &p->losses;
    if (kind == 0)
        return -l->fake + 10 * l->latent;
    return p->ttur * ((kind == 2 ? 0 : l->fake - l->real) + 10 * l->penalty);
}

/* Central difference of loss `kind` along each tensor's own random direction, and along one number of it,
 * against the gradient. Steps are small enough to cross no kink. */
static double worst_gradient(struct problem *p, int kind, const double *gradient, int stage)
{
    const int net = kind == 0 ? 0 : 1;
    struct unet_tensor t[LAGNET_MAX_TENSORS];
    size_t first[LAGNET_MAX_STAGES + 2];
    const int n = lagnet_list(&small, (enum lagnet_kind)net, stage, t, first);
    double worst = 0;
    for (int i = 0; i < n; i++)
        for (int one = 0; one < (t[i].n_dims == 4 && stage == 2 ? 2 : 1); one++) {
            const double h = 1e-5;
            double *way = numbers(t[i].count, 100 + (uint64_t)i, 1), told = 0, size = 0, at[2];
            for (size_t k = 0; one && k < t[i].count; k++)
                way[k] = k == t[i].count / 3;
            for (size_t k = 0; k < t[i].count; k++) {
                told += way[k] * gradient[t[i].start + k];
                size += way[k] * way[k] * gradient[t[i].start + k] * gradient[t[i].start + k];
            }
            for (int m = 0; m < 2; m++) {
                for (size_t k = 0; k < t[i].count; k++)
                    p->values[net][t[i].start + k] += (m ? h : -h) * way[k];
                at[m] = loss_of(p, kind);
                for (size_t k = 0; k < t[i].count; k++)
                    p->values[net][t[i].start + k] -= (m ? h : -h) * way[k];
            }
            const double found = (at[1] - at[0]) / (2 * h);
            const double off = fabs(found - told) / (sqrt(size) + 1e-3);
            if (off > 1e-6)
                print_message("%s of net %d, loss %d: told %g, found %g\n", t[i].name, net, kind, told,
                              found);
            worst = fmax(worst, off);
            free(way);
        }
    return worst;
}

/* With steps of next to nothing the residual is what its straight-through gradient takes it for. */
static void set_residue_step(struct lagnet *n, double step)
{
    for (int i = 0; i < n->u->n_nodes; i++)
        if (n->u->nodes[i].op == UNET_RESIDUE)
            n->u->nodes[i].factor = step;
}

static void check_all(int stage, double alpha)
{
    struct problem p = problem_new(stage, alpha);
    run_step(&p, p.grads[0], p.grads[1]);
    assert_true(p.losses.latent > 1e-3 && p.losses.penalty > 1e-3);
    assert_true(worst_gradient(&p, 1, p.grads[1], stage) < 1e-6);
    set_residue_step(p.s.d, 1e-13);
    run_step(&p, p.grads[0], p.grads[1]);
    assert_true(worst_gradient(&p, 0, p.grads[0], stage) < 1e-6);
    problem_free(&p);
}

static void test_gradients(void **state)
{
    (void)state;
    check_all(1, 1);
    check_all(2, 0.37);
}

/* The penalty's own gradient, which is all second order: L_D's less that of its scores alone. */
static void test_penalty_gradient(void **state)
{
    (void)state;
    struct problem p = problem_new(2, 0.6);
    double *other = calloc(p.n[1], sizeof *other);
    assert_non_null(other);
    run_step(&p, p.grads[0], p.grads[1]);
    lagnet_load(p.s.d, p.values[1]);
    lagnet_load(p.s.g, p.values[0]);
    generate(&p.s, p.y, p.z, p.alpha);
    struct lag_losses l;
    contest(&p.s, p.x, p.y, p.alpha, p.ttur, other, &l);
    for (size_t i = 0; i < p.n[1]; i++)
        p.grads[1][i] -= other[i];
    assert_true(worst_gradient(&p, 2, p.grads[1], 2) < 1e-6);
    free(other);
    problem_free(&p);
}

/* |grad| itself, which the differences above take for granted: the scalar's own differences by full-size pixels of an
 * image enlarged to full size, through the residual too. */
static void test_norm_by_pixels(void **state)
{
    (void)state;
    struct problem p = problem_new(1, 1);
    const int full = small.size << small.n_stages, c = small.n_colors;
    const size_t n = (size_t)full * full * c;
    double *x = calloc(n, sizeof *x), *half = calloc(n, sizeof *half), sum = 0;
    assert_true(x && half);
    p.u[0] = p.u[1] = 0; /* x~ = x */
    run_step(&p, p.grads[0], p.grads[1]);
    set_residue_step(p.s.d, 1e-13);
    double square[BATCH] = {0};
    for (int b = 0; b < BATCH; b++) {
        /* y another image's, so that the residual is far from its kink */
        const double *y = p.y + (1 - b) * p.s.small;
        for (int r = 0; r < full; r++)
            for (int s = 0; s < full; s++)
                for (int k = 0; k < c; k++)
                    x[((size_t)r * full + s) * c + k] =
                        p.x[b * p.s.image + ((size_t)(r / 2) * (full / 2) + s / 2) * c + k];
        for (size_t i = 0; i < n; i++) {
            double at[2];
            for (int m = 0; m < 2; m++) {
                const double kept = x[i];
                x[i] += m ? 1e-5 : -1e-5;
                lag64_halve(x, full, c, half);
                x[i] = kept;
                const double *f = lagnet_forward(p.s.d, half, y, 1, 1);
                at[m] = score(f, p.s.features, small.width) * small.size * small.size;
            }
            square[b] += (at[1] - at[0]) / 2e-5 * (at[1] - at[0]) / 2e-5;
        }
        sum += sqrt(square[b] / (double)n + 1e-8) / BATCH;
    }
    /* the step's own, told the same y's */
    double *swapped = calloc(BATCH * p.s.small, sizeof *swapped);
    assert_non_null(swapped);
    memcpy(swapped, p.y + p.s.small, p.s.small * sizeof *swapped);
    memcpy(swapped + p.s.small, p.y, p.s.small * sizeof *swapped);
    lag64_step_run(&p.s, p.values[0], p.values[1], p.x, swapped, p.z, p.u, 1, 4, p.grads[0], p.grads[1],
                   &p.losses);
    assert_true(fabs(p.losses.norm - sum) < 1e-7 * sum);
    free(swapped);
    free(half);
    free(x);
    problem_free(&p);
}

/* ---- the program's float build against the double one ---- */

static float *as_floats(const double *v, size_t n)
{
    float *f = calloc(n, sizeof *f);
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        f[i] = (float)v[i];
    return f;
}

static void test_float_build(void **state)
{
    (void)state;
    struct problem p = problem_new(2, 0.37);
    struct lag_step s;
    struct lag_losses losses;
    struct err e = {0};
    run_step(&p, p.grads[0], p.grads[1]);
    float *in[6] = {as_floats(p.values[0], p.n[0]),     as_floats(p.values[1], p.n[1]),
                    as_floats(p.x, BATCH * p.s.image),  as_floats(p.y, BATCH * p.s.small),
                    as_floats(p.z, BATCH * p.s.latent), as_floats(p.u, BATCH)};
    float *grads[2] = {as_floats(p.grads[0], p.n[0]), as_floats(p.grads[1], p.n[1])};
    assert_true(lag_step_open(&s, &small, 2, BATCH, &e));
    lag_step_run(&s, in[0], in[1], in[2], in[3], in[4], in[5], 0.37, 4, grads[0], grads[1], &losses);
    lag_step_close(&s);
    assert_true(fabs(losses.norm - p.losses.norm) < 1e-4 * p.losses.norm);
    assert_true(fabs(losses.latent - p.losses.latent) < 1e-4 * p.losses.latent);
    for (int k = 0; k < 2; k++) {
        double off = 0, size = 0;
        for (size_t i = 0; i < p.n[k]; i++) {
            const double d = (double)grads[k][i] - p.grads[k][i];
            off += d * d;
            size += p.grads[k][i] * p.grads[k][i];
        }
        assert_true(sqrt(off / size) < 1e-4);
        free(grads[k]);
    }
    for (int i = 0; i < 6; i++)
        free(in[i]);
    problem_free(&p);
}

/* ---- invariants ---- */

/* Section 3.4: millions of weights at 4x, 8x, 16x, 32x. */
static void test_sizes(void **state)
{
    (void)state;
    static const double published[2][4] = {{10.15, 10.23, 10.31, 10.38}, {6.39, 6.58, 6.76, 6.95}};
    struct lagnet_config c;
    lagnet64_config_defaults(&c);
    c.size = 4;
    c.n_colors = 3;
    for (int k = 0; k < 2; k++)
        for (c.n_stages = 2; c.n_stages <= 5; c.n_stages++) {
            const double told = (double)count_of(&c, (enum lagnet_kind)k, c.n_stages) / 1e6;
            assert_true(fabs(told - published[k][c.n_stages - 2]) < 0.005);
        }
    assert_int_equal(lagnet64_width(&c, 0), 256);
    assert_int_equal(lagnet64_width(&c, 1), 128);
    assert_int_equal(lagnet64_width(&c, 4), 64);
    c.n_stages = 6;
    assert_false(lagnet64_config_check(&c, NULL));
}

/* Mean square of a node at least 2 pixels away from borders; reach 1: of what a 3x3 convolution sees from there. */
static double moment(const struct unet_node *o, int reach)
{
    double sum = 0;
    size_t n = 0;
    for (int r = 2; r < o->h - 2; r++)
        for (int s = 2; s < o->w - 2; s++)
            for (int d = -reach; d <= reach; d++)
                for (int f = -reach; f <= reach; f++)
                    for (int c = 0; c < o->c; c++, n++)
                        sum += pow(o->y[((size_t)(r + d) * o->w + s + f) * o->c + c], 2);
    return sum / (double)n;
}

/* Every convolution with its activation keeps the second moment, on the mean over starting weights. */
static void test_equalised(void **state)
{
    (void)state;
    enum { SEEDS = 60, MAX = 32 };
    const struct lagnet_config c = {
        .size = 6, .n_stages = 1, .n_colors = 3, .n_noise = 29, .width = 32, .narrow = 32, .n_blocks = 2};
    double ratio[2][MAX] = {{0}};
    int n_convs[2] = {0};
    for (int k = 0; k < 2; k++) {
        const size_t n = count_of(&c, (enum lagnet_kind)k, 1);
        double *values = calloc(n, sizeof *values), *y = numbers(36 * 3, 8, 1);
        struct lagnet *net = lagnet64_create(&c, (enum lagnet_kind)k, 1, 1, false, NULL);
        assert_true(values && net);
        for (int seed = 0; seed < SEEDS; seed++) {
            double *x = numbers(144 * 32, 50 + (uint64_t)seed, 1);
            assert_true(lagnet64_init(&c, (enum lagnet_kind)k, (uint64_t)seed, values, NULL));
            lagnet64_load(net, values);
            lagnet64_forward(net, x, k ? y : NULL, 1, 1);
            n_convs[k] = 0;
            for (int i = 0; i < net->u->n_nodes; i++) {
                const struct unet_node *o = &net->u->nodes[i];
                if (o->op != UNET_CONV)
                    continue;
                const bool active = i + 1 < net->u->n_nodes && net->u->nodes[i + 1].op == UNET_LEAKY;
                ratio[k][n_convs[k]++] +=
                    moment(active ? o + 1 : o, 0) / moment(&net->u->nodes[o->a], 1) / SEEDS;
            }
            free(x);
        }
        if (k == 0) /* colours: nothing follows */
            assert_true(fabs(net->gain[net->u->n_tensors - 2] - sqrt(1.0 / (9 * 32))) < 1e-12);
        lagnet64_free(net);
        free(values);
        free(y);
    }
    assert_int_equal(n_convs[0], 8);
    assert_int_equal(n_convs[1], 5);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < n_convs[k]; i++)
            if (fabs(ratio[k][i] - 1) > (k == 0 && i == 7 ? 0.2 : 0.05)) /* the last has 3 outputs only */
                fail_msg("net %d, convolution %d: second moment times %g", k, i, ratio[k][i]);
}

static void test_resampling(void **state)
{
    (void)state;
    static const double box[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    double y[16], work[4], x[16];
    lag64_halve(box, 4, 1, y);
    assert_true(y[0] == 3.5 && y[1] == 5.5 && y[2] == 11.5 && y[3] == 13.5);
    memcpy(x, box, sizeof x);
    lag64_fade(x, 4, 1, 0, work);
    assert_true(x[0] == 3.5 && x[5] == 3.5 && x[15] == 13.5);
    lag64_halve(x, 4, 1, y);
    assert_true(y[0] == 3.5 && y[3] == 13.5); /* down(up(x)) = x */
    memcpy(x, box, sizeof x);
    lag64_fade(x, 4, 1, 1, work);
    assert_memory_equal(x, box, sizeof x);
    lag64_fade(x, 4, 1, 0.5, work);
    assert_true(x[0] == 2.25);
    /* two channels of 2x2 pixels: channel c, row dy, column dx -> 4c + 2dy + dx, and back */
    const double pixels[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    double stacked[8], back[8] = {0};
    const struct unet_node o = {.h = 1, .w = 1, .c = 8};
    stack_image(&o, pixels, stacked, NULL, NULL, false);
    for (int i = 0; i < 8; i++)
        assert_true(stacked[i] == i);
    stack_image(&o, NULL, NULL, stacked, back, true);
    assert_memory_equal(back, pixels, sizeof back);
}

static const double *output(struct lagnet **net, enum lagnet_kind kind, int stage, const double *values,
                            const double *x, const double *y, double alpha)
{
    struct lagnet_config c = small;
    c.n_stages = 3;
    lagnet64_free(*net);
    *net = lagnet64_create(&c, kind, stage, 1, false, NULL);
    assert_non_null(*net);
    lagnet64_load(*net, values);
    return lagnet64_forward(*net, x, y, alpha, 1);
}

/* Faded in by nothing, a stage is the one before, bit for bit; faded in wholly it is what the next one starts from. */
static void test_fading(void **state)
{
    (void)state;
    struct lagnet_config c = small;
    c.n_stages = 3;
    struct lagnet *a = NULL, *b = NULL;
    double *g = numbers(count_of(&c, LAGNET_GENERATOR, 3), 1, 0.8),
           *d = numbers(count_of(&c, LAGNET_CRITIC, 3), 2, 0.8);
    double *in = numbers(2 * 2 * 4, 3, 1), *y = numbers(2 * 2 * 2, 4, 0.5), *x = numbers(16 * 16 * 2, 5, 0.5);
    double *half = calloc(16 * 16 * 2, sizeof *half);
    assert_non_null(half);
    for (int stage = 2; stage <= 3; stage++) {
        const int side = small.size << stage;
        const double *large = output(&a, LAGNET_GENERATOR, stage, g, in, NULL, 0),
                     *less = output(&b, LAGNET_GENERATOR, stage - 1, g, in, NULL, 1);
        for (int r = 0; r < side; r++)
            for (int s = 0; s < side; s++)
                for (int k = 0; k < 2; k++)
                    assert_true(large[((size_t)r * side + s) * 2 + k] ==
                                less[((size_t)(r / 2) * (side / 2) + s / 2) * 2 + k]);
        assert_true(output(&a, LAGNET_GENERATOR, stage, g, in, NULL, 0.5)[7] != less[0]);
        large = output(&a, LAGNET_CRITIC, stage, d, x, y, 0);
        lag64_halve(x, side, 2, half);
        less = output(&b, LAGNET_CRITIC, stage - 1, d, half, y, 1);
        assert_memory_equal(large, less, 2 * 2 * small.width * sizeof *less);
    }
    lagnet64_free(a);
    lagnet64_free(b);
    free(g);
    free(d);
    free(in);
    free(y);
    free(x);
    free(half);
}

/* The residual of a true image is 0, of one grey level off 0, of three one step of four. */
static void test_residue(void **state)
{
    (void)state;
    struct problem p = problem_new(2, 1);
    double *x = calloc(p.s.image, sizeof *x);
    assert_non_null(x);
    static const double shift[3] = {0, 1 / 127.5, 3 / 127.5}, step[3] = {0, 0, 4 / 127.5};
    lagnet_load(p.s.d, p.values[1]);
    for (int i = 0; i < 3; i++) {
        for (size_t k = 0; k < p.s.image; k++)
            x[k] = p.x[k] + shift[i];
        lagnet_forward(p.s.d, x, p.y, 1, 1);
        const struct unet *u = p.s.d->u;
        for (int j = 0; j < u->n_nodes; j++)
            for (size_t k = 0; u->nodes[j].op == UNET_RESIDUE && k < p.s.small; k++)
                assert_true(fabs(u->nodes[j].y[k] - step[i]) < 1e-15);
    }
    free(x);
    problem_free(&p);
}

/* What is made of one y depends on its own z alone, and z = 0 always gives the same. */
static void test_items_apart(void **state)
{
    (void)state;
    struct problem p = problem_new(2, 1);
    const size_t one = p.s.small + p.s.latent;
    double *in = numbers(2 * one, 9, 1), *out = calloc(2 * p.s.image, sizeof *out),
           *kept = calloc(one, sizeof *kept);
    assert_true(out && kept);
    lagnet_load(p.s.g, p.values[0]);
    memcpy(out, lagnet_forward(p.s.g, in, NULL, 1, 2), 2 * p.s.image * sizeof *out);
    memcpy(kept, in, one * sizeof *in);
    memcpy(in, in + one, one * sizeof *in);
    memcpy(in + one, kept, one * sizeof *in);
    const double *swapped = lagnet_forward(p.s.g, in, NULL, 1, 2);
    assert_memory_equal(swapped, out + p.s.image, p.s.image * sizeof *out);
    assert_memory_equal(swapped + p.s.image, out, p.s.image * sizeof *out);
    run_step(&p, p.grads[0], p.grads[1]);
    memcpy(out, p.s.made + BATCH * p.s.image, BATCH * p.s.image * sizeof *out);
    for (size_t i = 0; i < BATCH * p.s.latent; i++)
        p.z[i] = -p.z[i];
    run_step(&p, p.grads[0], p.grads[1]);
    assert_memory_equal(out, p.s.made + BATCH * p.s.image, BATCH * p.s.image * sizeof *out);
    assert_memory_not_equal(p.s.made, out, p.s.image * sizeof *out);
    free(in);
    free(out);
    free(kept);
    problem_free(&p);
}

/* Adam without its 1e-8, beta1 = 0. */
static void adam(double *w, const double *g, double *v, size_t n, int t)
{
    for (size_t i = 0; i < n; i++) {
        v[i] = 0.99 * v[i] + 0.01 * g[i] * g[i];
        if (v[i] > 0)
            w[i] -= 1e-3 * g[i] / sqrt(v[i] / (1 - pow(0.99, t)));
    }
}

/* "ttur" multiplies the critic's loss, which Adam does not notice: 50 steps of 1 and of 4 end in the same bits. */
static void test_ttur(void **state)
{
    (void)state;
    struct problem p[2] = {problem_new(2, 1), problem_new(2, 1)};
    for (int i = 0; i < 2; i++) {
        double *v[2] = {calloc(p[i].n[0], sizeof(double)), calloc(p[i].n[1], sizeof(double))};
        assert_true(v[0] && v[1]);
        p[i].ttur = i ? 4 : 1;
        for (int t = 1; t <= 50; t++) {
            run_step(&p[i], p[i].grads[0], p[i].grads[1]);
            for (int k = 0; k < 2; k++)
                adam(p[i].values[k], p[i].grads[k], v[k], p[i].n[k], t);
        }
        free(v[0]);
        free(v[1]);
    }
    for (int k = 0; k < 2; k++)
        assert_memory_equal(p[0].values[k], p[1].values[k], p[0].n[k] * sizeof(double));
    problem_free(&p[0]);
    problem_free(&p[1]);
}

/* ---- runs ---- */

static struct lag_config tiny(void)
{
    struct lag_config c;
    lag_config_defaults(&c);
    c.net = (struct lagnet_config){
        .size = 4, .n_stages = 2, .n_colors = 1, .n_noise = 2, .width = 8, .narrow = 4, .n_blocks = 1};
    c.n_updates = 24;
    c.batch = 4;
    c.last = 2;
    return c;
}

static void test_phases(void **state)
{
    (void)state;
    struct lag_config c = tiny();
    c.net.n_stages = 3;
    c.last = 1;
    c.n_updates = 50; /* five phases of ten */
    static const struct {
        uint64_t done;
        int stage;
        double alpha;
    } told[] = {{0, 1, 1},  {9, 1, 1},    {10, 2, 0}, {15, 2, 0.5}, {20, 2, 1},
                {30, 3, 0}, {39, 3, 0.9}, {40, 3, 1}, {49, 3, 1}};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        const struct lag_place at = lag_place_at(&c, told[i].done);
        assert_int_equal(at.stage, told[i].stage);
        assert_true(fabs(at.alpha - told[i].alpha) < 1e-9);
    }
    lag_config_defaults(&c);
    assert_true(c.batch == 16 && c.lr == 1e-3 && c.momentum == 0.999 && c.ttur == 4 && c.last == 1);
    assert_true(c.net.n_noise == 64 && c.net.n_blocks == 8 && c.net.width == 256 && c.net.narrow == 64);
}

/* Slanted edges. */
static void draw(void *ctx, uint64_t seed, uint64_t index, float *x)
{
    (void)ctx;
    struct rng r;
    rng_init(&r, seed, RNG_SHUFFLE, index);
    const double at = rng_uniform(&r) * 20, slope = rng_uniform(&r) * 2 - 1;
    for (int i = 0; i < 256; i++)
        x[i] = i % 16 + slope * (i / 16) > at ? 0.8f : -0.7f;
}

/* Trains in pieces of `piece` updates, each by a run taken up from the file of the one before. */
static void train_in_pieces(const char *path, uint64_t piece, int threads)
{
    const struct lag_config c = tiny();
    const struct lag_data data = {draw, NULL};
    struct err e = {0};
    omp_set_num_threads(threads);
    struct lag_run *r = lag_create(&c, &e);
    assert_non_null(r);
    while (lag_updates_done(r) < c.n_updates) {
        assert_true(lag_train(r, &data, piece, NULL, &e));
        assert_true(lag_save(r, path, NULL, 0, &e));
        lag_free(r);
        r = lag_resume(path, &c, &e);
        assert_non_null(r);
    }
    lag_free(r);
}

static void test_runs(void **state)
{
    (void)state;
    const char *path[2] = {"lag_whole.safetensors", "lag_pieces.safetensors"};
    const int threads = omp_get_max_threads();
    struct err e = {0};
    train_in_pieces(path[0], 24, 1);
    train_in_pieces(path[1], 7, 3);
    omp_set_num_threads(threads);
    size_t n[2];
    char *bytes[2];
    for (int i = 0; i < 2; i++)
        assert_non_null(bytes[i] = file_read(path[i], 1 << 24, &n[i], &e));
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    free(bytes[0]);
    free(bytes[1]);

    struct lag_config c = tiny();
    c.lr = 2e-3;
    assert_null(lag_resume(path[0], &c, &e));
    assert_non_null(strstr(e.msg, "other settings"));
    /* a run that is not finished is no model; steps within a stage allocate nothing */
    const struct lag_data data = {draw, NULL};
    c = tiny();
    struct lag_run *r = lag_create(&c, &e);
    assert_true(r && lag_train(r, &data, 2, NULL, &e));
    const uint64_t allocations = mem_count();
    assert_true(lag_train(r, &data, 3, NULL, &e));
    assert_int_equal(mem_count(), allocations);
    assert_true(lag_save(r, path[1], NULL, 0, &e));
    lag_free(r);
    struct lag_model m;
    assert_false(lag_model_open(&m, path[1], &e));
    assert_int_equal(e.code, ERR_MODEL);
    assert_non_null(strstr(e.msg, "not finished"));
    unlink(path[1]);
}

/* A model's measures, by hand for one image. */
static void test_measures(void **state)
{
    (void)state;
    enum { DRAWS = 3, SIDE = 16, D = SIDE * SIDE };
    const char *path = "lag_whole.safetensors";
    struct err e = {0};
    struct lag_model m;
    struct lag_maker k;
    struct lag_measures told;
    float x[D], y[DRAWS * 16], z[DRAWS * 32], made[(DRAWS + 1) * D];
    assert_true(lag_model_open(&m, path, &e) && lag_maker_open(&k, &m, DRAWS, true, &e));
    draw(NULL, 77, 3, x);
    assert_true(lag_measure(&k, x, 1, DRAWS, 5, &told, NULL, &e));
    for (int i = 0; i < 16; i++) {
        double sum = 0;
        for (int p = 0; p < 16; p++)
            sum += (double)x[(i / 4 * 4 + p / 4) * SIDE + i % 4 * 4 + p % 4];
        for (int d = 0; d < DRAWS; d++)
            y[d * 16 + i] = (float)(sum / 16);
    }
    for (int d = 0; d < DRAWS; d++)
        for (int p = 0; p < 16; p++)
            lag_noise(5, (uint32_t)d + 1, 0, (uint32_t)p, 2, z + d * 32 + p * 2);
    memcpy(made, lag_make(&k, y, z, DRAWS), DRAWS * D * sizeof *made);
    memcpy(made + DRAWS * D, lag_make(&k, y, NULL, 1), D * sizeof *made);
    double variance = 0, centre = 0, spread = 0, off = 0, error = 0;
    for (int i = 0; i < D; i++) {
        double mean = 0;
        for (int d = 0; d < DRAWS; d++)
            mean += (double)made[d * D + i] / DRAWS;
        for (int d = 0; d < DRAWS; d++)
            spread += pow((double)made[d * D + i] - mean, 2) / DRAWS;
        centre += pow((double)made[DRAWS * D + i] - mean, 2);
        error += pow((double)made[DRAWS * D + i] - (double)x[i], 2) / D;
    }
    variance = spread / D * DRAWS / (DRAWS - 1);
    for (int i = 0; i < 16; i++) {
        double sum = 0;
        for (int p = 0; p < 16; p++)
            sum += (double)made[DRAWS * D + (i / 4 * 4 + p / 4) * SIDE + i % 4 * 4 + p % 4];
        off += pow(sum / 16 - (double)y[i], 2) / 16;
    }
    assert_true(variance > 1e-8);
    assert_true(fabs(told.sd - 127.5 * sqrt(variance)) < 1e-3);
    assert_true(fabs(told.off_centre - 127.5 * sqrt(off)) < 1e-3);
    assert_true(fabs(told.error_centre - 127.5 * sqrt(error)) < 1e-3);
    assert_true(fabs(told.rho_pixels - sqrt(centre / spread)) < 1e-4);
    assert_true(told.rho > 0 && told.error_plain > 0);
    /* noise belongs to its place and version, and is N(0,1) */
    double sum = 0, square = 0;
    for (uint32_t i = 0; i < 4000; i++) {
        float v[2];
        lag_noise(1, 1 + i % 2, i, 3, 2, v);
        sum += (double)v[0];
        square += (double)v[1] * (double)v[1];
    }
    assert_true(fabs(sum / 4000) < 0.06 && fabs(square / 4000 - 1) < 0.1);
    lag_maker_close(&k);
    lag_model_close(&m);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),      cmocka_unit_test(test_penalty_gradient),
        cmocka_unit_test(test_norm_by_pixels), cmocka_unit_test(test_float_build),
        cmocka_unit_test(test_sizes),          cmocka_unit_test(test_equalised),
        cmocka_unit_test(test_resampling),     cmocka_unit_test(test_fading),
        cmocka_unit_test(test_residue),        cmocka_unit_test(test_items_apart),
        cmocka_unit_test(test_ttur),           cmocka_unit_test(test_phases),
        cmocka_unit_test(test_runs),           cmocka_unit_test(test_measures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
