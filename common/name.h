/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/* The forms that names must have before they may become part of a path, a key or a bus call. */

#define NAME_SIZE_MAX      64   /* bytes of an app, channel, release or instance name */
#define TREE_PATH_SIZE_MAX 4095 /* bytes of a path inside a release */
#define TREE_DEPTH_MAX     64   /* components of such a path */

/* App, channel, release and instance names: [A-Za-z0-9][A-Za-z0-9._-]{0,63}. */
bool name_is_valid(const char *s);

/* A path inside a release's tree: relative, no empty, "." or ".." component, each at most 255
 * bytes, no control character, within the limits above. UTF-8 is not asked for. */
bool tree_path_is_valid(const char *s);

/* True if a symlink at `path` (a valid tree path) with this target can be resolved without leaving
 * the tree, judged by its text alone: relative, not empty, never climbing above the tree's root,
 * no control character, at most TREE_PATH_SIZE_MAX bytes. */
bool tree_link_is_inside(const char *path, const char *target);

/* A store key below the store's prefix, as manifests name objects: like a tree path, with only
 * [A-Za-z0-9._-] in its components. */
bool store_path_is_valid(const char *s);

/* A unit name that may be restarted: systemd.unit(5)'s characters, at most 255 bytes, with one of
 * the suffixes .service, .socket, .timer, .path, .target. */
bool unit_name_is_valid(const char *s);
