/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <limits.h>

#include "activate.h"
#include "beneath.h"
#include "index.h"
#include "macro.h"

/*
 * The links in a release's tree that lead to <root>/shared/ (activate.h): releases/ID/var/uploads
 * is a symlink to ../../../shared/var/uploads. They stand in the order for the release, not in its
 * index, and only slipway-unpack, to which the tree belongs, makes them.
 */

/* What the link at `path`, a valid tree path, holds. -ENAMETOOLONG. */
_must_check_ int shared_link_target(const char *path, char ret[static PATH_MAX]);

/* Judged from the signed index alone: -EBADMSG if the release has a file, a link or a directory
 * with something in it at `path`, or a parent of it that is no directory. */
_must_check_ int shared_link_judge(const Index *index, const char *path, char **reterr);

/* 1: the link is there, as it has to be; 0: it is not. */
_must_check_ int shared_link_is_there(Beneath *tree, const char *path);

/* Makes the link, and missing parents of it, 0755; an empty directory gives way. A link that is
 * there stays. -EBADMSG: something else is in the way. Does not sync. */
_must_check_ int shared_link_make(Beneath *tree, const char *path, char **reterr);

/* The links of a release that goes live, for another process: a sealed memfd (the caller's to
 * close) with their paths, each with its NUL; *ret_size in bytes. */
_must_check_ int shared_links_pack(const Activate *a, uint64_t *ret_size);

typedef struct SharedPaths {
        char *data;
        const char *paths[ACTIVATE_SHARED_MAX];
        size_t n_paths;
} SharedPaths;

/* Reads it. -EPROTO: there are too many, or they are no tree paths. */
_must_check_ int shared_links_unpack(int fd, uint64_t size, SharedPaths *ret);
void shared_paths_done(SharedPaths *p);
