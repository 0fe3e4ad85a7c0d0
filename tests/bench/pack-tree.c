/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "delta.h"
#include "err.h"
#include "fd.h"
#include "index.h"
#include "manifest.h"
#include "pack.h"

/*
 * Packs a tree and does nothing else, for measuring: pack-tree TREE OUTPUT TIME LEVEL
 * [PREDECESSOR]. Writes OUTPUT.tar.zst and OUTPUT.index. TIME is the source's, in seconds; LEVEL 0
 * the default; PREDECESSOR an index. Prints the artifact's bytes, the index's, and with a
 * predecessor how many bytes a host that has it fetches, and in how many requests.
 */

static int read_index(const char *path, Index **ret, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        size_t size = 0;
        int r = file_read_at(AT_FDCWD, path, INDEX_SIZE_MAX, &data, &size);

        return r < 0 ? r : index_parse(data, size, ret, reterr);
}

static int open_output(const char *output, const char *suffix)
{
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s%s", output, suffix) < 0)
                return -ENOMEM;
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        return fd < 0 ? -errno : fd;
}

static int print_fetch(const PackResult *packed, const Index *seed, char **reterr)
{
        _cleanup_(index_freep) Index *index = NULL;
        _cleanup_(delta_freep) Delta *delta = NULL;
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        int r = index_parse(packed->index, packed->index_size_bytes, &index, reterr);

        if (r >= 0)
                r = delta_new(index, &seed, 1, &delta);
        if (r < 0)
                return r;
        delta_settle(delta);
        r = delta_ranges(delta, &ranges);
        if (r >= 0)
                printf(" %llu %zu", (unsigned long long) range_set_bytes(ranges),
                       range_set_n(ranges));
        return r;
}

static int run(int argc, char **argv, char **reterr)
{
        const PackOptions o = {
                .source_time_sec = strtoull(argv[3], NULL, 10),
                .level = atoi(argv[4]),
        };
        _cleanup_(index_freep) Index *predecessor = NULL;
        _cleanup_(pack_result_done) PackResult packed = {};
        _cleanup_close_ int tree_fd = dir_open_at(AT_FDCWD, argv[1]);
        int r = argc > 5 ? read_index(argv[5], &predecessor, reterr) : 0;
        _cleanup_close_ int fd = r < 0 ? r : open_output(argv[2], ".tar.zst");
        _cleanup_close_ int index_fd = fd < 0 ? fd : open_output(argv[2], ".index");

        if (tree_fd < 0 || index_fd < 0)
                return MIN(tree_fd, index_fd);
        r = pack_tree(tree_fd, &o, predecessor, fd, &packed, reterr);
        if (r >= 0)
                r = fd_write_all(index_fd, packed.index, packed.index_size_bytes);
        if (r < 0)
                return r;
        printf("%llu %zu", (unsigned long long) packed.artifact_size_bytes,
               packed.index_size_bytes);
        r = predecessor ? print_fetch(&packed, predecessor, reterr) : 0;
        printf("\n");
        return r;
}

int main(int argc, char **argv)
{
        _cleanup_free_ char *err = NULL;

        if (argc < 5 || argc > 6) {
                (void) fprintf(stderr, "usage: pack-tree TREE OUTPUT TIME LEVEL [PREDECESSOR]\n");
                return 2;
        }
        int r = run(argc, argv, &err);
        if (r < 0)
                (void) fprintf(stderr, "pack-tree: %s\n", err_text(r, err));
        return r < 0;
}
