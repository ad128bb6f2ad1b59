/* SPDX-License-Identifier: Apache-2.0
 *
 * extraction_parts.h - what the files of direct extraction share, and its tests look into: extraction.c drives
 * and solves, extraction_search.c finds corners and measures jumps. */
#ifndef AM_EXTRACTION_PARTS_H
#define AM_EXTRACTION_PARTS_H

#include "models/base/rng.h"
#include "models/learn/extraction.h"

enum { EXTRACTION_MAX_STEPS = 4, EXTRACTION_MAX_CORNERS = 4096, EXTRACTION_MAX_DEPTH = 80 };

/* What the precision of the answers allows. */
struct extraction_tolerance {
    bool is_exact;
    double noise, floor;               /* an answer is known to within noise * max(floor, largest answer) */
    double step[EXTRACTION_MAX_STEPS]; /* s: how far from a corner its Jacobians are taken */
    int n_steps;
    double divide[2];           /* e = s / divide */
    double rank;                /* second singular value by the first, beside what noise makes */
    double delta, verify;       /* second difference over the plane, and how well it must fit */
    double known;               /* how near to a known plane a corner belongs to it */
    double same_row, same_bias; /* rows that are one */
    double integral;            /* how near to 0 or 1 signs must come */
};

/* A stretch of a line that holds a known unit's corner. */
struct extraction_gap {
    double low, high;
};

struct extraction_unit {
    double *row, *jump, *at; /* [d] of length 1, [k] its weights above, [d] a point of its plane */
    double bias;
};

struct extraction_state {
    const struct extraction_oracle *oracle;
    const struct extraction_options *o;
    const struct progress *progress;
    struct extraction_tolerance tol;
    struct extraction_copy *copy;
    double begun_s;
    struct rng rng;
    struct extraction_unit *unit; /* [n_units] */
    int n_units;
    double largest; /* of all answers */
    /* Scratch. */
    double *x, *w, *p;          /* [d] */
    double *y0, *y1, *y2;       /* [k] */
    double *jacobian, *svd;     /* [d,k] column by column; LAPACK's */
    double *intervals;          /* answers at the ends of intervals */
    struct extraction_gap *gap; /* [units] */
    double corner[EXTRACTION_MAX_CORNERS];
};

struct extraction_tolerance extraction_tolerances(double quantum, double floor);
int extraction_svd_work(int k, int d); /* doubles that the singular values of a [k,d] matrix need */
bool extraction_refuse(struct err *e); /* the answers are those of no two-layer ReLU network */
bool extraction_state_open(struct extraction_state *s, struct err *e);
void extraction_state_close(struct extraction_state *s);

/* One query, counted. Ends the run when queries or time are spent. */
bool extraction_ask(struct extraction_state *s, const double *x, double *y, struct err *e);

/* Corners on u + t v, t in [low, high], are added to corner[], of which n are filled. */
bool extraction_corners(struct extraction_state *s, const double *u, const double *v, double low, double high,
                        int *n, struct err *e);

/* The unit whose plane holds u + t v. *found false: it did not prove to be one. */
bool extraction_measure(struct extraction_state *s, const double *u, const double *v, double t,
                        struct extraction_unit *unit, bool *found, struct err *e);

/* Least squares: a [n,p] and b [n,q] column by column, both overwritten; the solution is the first p rows of b
 * (leading dimension max(n, p)). *rank: of a. */
bool extraction_least_squares(double *a, double *b, int n, int p, int q, double condition, int *rank,
                              struct err *e);

/* Which rows have the wrong sign: flip [m] 0 or 1. False: the linear part does not tell. */
bool extraction_signs(const double *row, const double *top, const double *linear, int d, int k, int m,
                      double integral, int *flip);

#endif
