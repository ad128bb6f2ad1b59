/* SPDX-License-Identifier: Apache-2.0
 * labels.h - a label as its JSON document. */
#ifndef AM_LABELS_H
#define AM_LABELS_H

#include "geo/store.h"
#include <cJSON.h>

cJSON *labels_document(const struct store_label *l);

#endif
