/* SPDX-License-Identifier: Apache-2.0
 *
 * event_files.h - the three files of an event (event.h) changed together, whatever happens in between.
 *
 * Three renames are not one, and a process may be killed between any two of them. So the complete new files first get
 * their next names (chips.next.tif, chips.next.gpkg), and last event.next.json: once that is there, the change is
 * decided, and whoever opens the event ends it before reading. Without event.next.json the others mean nothing.
 *
 *   temporary names --> next names --> event.next.json (decided) --> final names, event.json last
 *     killed here: the event is the old one        |          killed here: the next to open makes it the new one
 *
 * Changes and their ends exclude each other by a lock on the folder (flock), where the file system has such. */
#ifndef AM_EVENT_FILES_H
#define AM_EVENT_FILES_H

#include "models/base/err.h"

enum { EVENT_CHIPS, EVENT_INDEX, EVENT_MANIFEST, EVENT_N_FILES };
extern const char *const event_files_name[EVENT_N_FILES]; /* in the order in which they change */

/* Puts complete files (their paths, in the same folder) in the places of the event's own; they are synced first. On an
 * error before the change is decided the event stays as it was and the given files are there still or were removed;
 * after it, the sentence says that the next to open the event ends it. */
bool event_files_replace(const char *dir, const char *const from[EVENT_N_FILES], struct err *e);

/* Ends a change that was decided; nothing to do: true. ERR_RUNTIME where the folder may not be written. */
bool event_files_finish(const char *dir, struct err *e);

/* Whether a file of that name in an event's folder is the event's own, or what a killed process left of one. */
bool event_files_owns(const char *name);

#endif
