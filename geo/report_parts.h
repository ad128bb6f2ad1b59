/* SPDX-License-Identifier: Apache-2.0
 *
 * report_parts.h - what the files of the report share: its words (report_words.c) and its picture
 * (report_picture.c). */
#ifndef AM_REPORT_PARTS_H
#define AM_REPORT_PARTS_H

#include "geo/report.h"

/* X(key): every text of the report, once in each language (report_words.c). {0} {1} ... are filled in. */
#define REPORT_WORDS(X)                                                                                      \
    X(TITLE)                                                                                                 \
    X(SUMMARY)                                                                                               \
    X(HEADLINE)                                                                                              \
    X(HEADLINE_SHARE)                                                                                        \
    X(BY_CLASS)                                                                                              \
    X(BY_ZONE)                                                                                               \
    X(CLASS)                                                                                                 \
    X(GRADED)                                                                                                \
    X(ESTIMATE)                                                                                              \
    X(INTERVAL)                                                                                              \
    X(SHARE)                                                                                                 \
    X(ZONE)                                                                                                  \
    X(BUILDINGS)                                                                                             \
    X(DAMAGED)                                                                                               \
    X(NONE)                                                                                                  \
    X(MINOR)                                                                                                 \
    X(MAJOR)                                                                                                 \
    X(DESTROYED)                                                                                             \
    X(UNKNOWN)                                                                                               \
    X(UNDAMAGED)                                                                                             \
    X(SEE_NONE)                                                                                              \
    X(SEE_MINOR)                                                                                             \
    X(SEE_MAJOR)                                                                                             \
    X(SEE_DESTROYED)                                                                                         \
    X(SEE_UNKNOWN)                                                                                           \
    X(TO)                                                                                                    \
    X(WHOLE)                                                                                                 \
    X(OUTSIDE)                                                                                               \
    X(TOO_FEW)                                                                                               \
    X(GAP)                                                                                                   \
    X(MAP)                                                                                                   \
    X(MAP_CAPTION)                                                                                           \
    X(MAP_NO_IMAGE)                                                                                          \
    X(LEGEND)                                                                                                \
    X(ACCURACY)                                                                                              \
    X(PRECISION)                                                                                             \
    X(RECALL)                                                                                                \
    X(CANNOT_TELL)                                                                                           \
    X(IMAGERY)                                                                                               \
    X(BEFORE)                                                                                                \
    X(AFTER)                                                                                                 \
    X(DATE)                                                                                                  \
    X(NOT_KNOWN)                                                                                             \
    X(FILE)                                                                                                  \
    X(RESOLUTION)                                                                                            \
    X(METHOD)                                                                                                \
    X(METHOD_SAMPLE)                                                                                         \
    X(METHOD_STRATA)                                                                                         \
    X(METHOD_EXACT)                                                                                          \
    X(METHOD_ASSISTED)                                                                                       \
    X(SCALE)                                                                                                 \
    X(LIMITS)                                                                                                \
    X(LIMIT_IMAGES)                                                                                          \
    X(LIMIT_ROOFS)                                                                                           \
    X(LIMIT_GRADES)                                                                                          \
    X(LIMIT_FOOTPRINTS)                                                                                      \
    X(LIMIT_ZONES)                                                                                           \
    X(LIMIT_SINGLE)                                                                                          \
    X(PROVENANCE)                                                                                            \
    X(VERSION)                                                                                               \
    X(RUN)                                                                                                   \
    X(CREATED)                                                                                               \
    X(MODEL)                                                                                                 \
    X(EVENT)                                                                                                 \
    X(REVIEWED)                                                                                              \
    X(SIGNATURE)

enum report_word {
#define REPORT_ENUM(key) WORD_##key,
    REPORT_WORDS(REPORT_ENUM)
#undef REPORT_ENUM
        N_REPORT_WORDS
};

const char *report_word(enum report_lang lang, enum report_word word);

/* A number by the language's habits: digits after the mark, thousands set apart. out [40]. */
void report_number(enum report_lang lang, double v, int decimals, char out[40]);

/* The map as a base64 JPEG of at most max_px a side, over the image after the event where that can still be
 * read (*has_image). NULL on an error; free(). run: run.json. */
char *report_picture(const char *map_dir, const cJSON *run, int max_px, int *width, int *height,
                     bool *has_image, struct err *e);

#endif
