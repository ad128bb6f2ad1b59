/* SPDX-License-Identifier: Apache-2.0
 * scene_sensor.h - from a painted canvas to the numbers a satellite product would hold. */
#ifndef AM_SCENE_SENSOR_H
#define AM_SCENE_SENSOR_H

#include "samples/scene/scene_canvas.h"

struct sensor; /* scratch of one thread */
struct sensor *sensor_open(struct err *e);
void sensor_close(struct sensor *q);

/* Clouds and haze, blur, response, noise, blank wedges; writes the tile's pixels (not the margin) as samples
 * of o.bits, band-interleaved by pixel, into out at row pitch `pitch` samples. cols, rows: how much of the
 * tile lies in the image. */
void sensor_take(struct sensor *q, struct canvas *c, int cols, int rows, void *out, size_t pitch);

#endif
