/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What man pages say, held against the code, for check-man-pages.py:
 *
 *   man-example KIND FILE [TRUST]   has the parser of such a document read the file; of an
 * envelope, verifies its signatures by the payload of a trust root man-example limits prints "PAGE
 * NAME VALUE" for what pages give as numbers
 */

#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>

#include "brake.h"
#include "chunk.h"
#include "config.h"
#include "err.h"
#include "fd.h"
#include "index.h"
#include "name.h"
#include "provenance.h"
#include "spec.h"
#include "ssm-memory.h"
#include "state-file.h"
#include "trust.h"

typedef struct Text {
        char *data;
        size_t size;
} Text;

static void text_done(Text *t)
{
        free(t->data);
}

static int text_read(const char *path, Text *ret, char **reterr)
{
        int r = file_read_at(AT_FDCWD, path, STATE_SIZE_MAX, &ret->data, &ret->size);

        return r < 0 ? fail_errno(reterr, r, "can't read %s", path) : 0;
}

static int read_manifest(const Text *t, char **reterr)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;

        return manifest_parse(t->data, t->size, &m, reterr);
}

static int read_trust(const Text *t, char **reterr)
{
        _cleanup_(trust_freep) Trust *trust = NULL;

        return trust_parse(t->data, t->size, &trust, reterr);
}

static int read_halt(const Text *t, char **reterr)
{
        _cleanup_free_ char *text = NULL;
        bool halted;

        return brake_parse(t->data, t->size, &halted, &text, reterr);
}

static int read_statement(const Text *t, char **reterr)
{
        _cleanup_(provenance_freep) Provenance *p = NULL;

        return provenance_parse(t->data, t->size, &p, reterr);
}

static int read_command(const Text *t, char **reterr)
{
        _cleanup_(ssm_record_done) SsmRecord record = {};
        _cleanup_free_ char *reply = NULL;

        return ssm_record_parse(t->data, t->size, &record, &reply, reterr);
}

/* Documents that are read from memory. */
static const struct {
        const char *kind;
        int (*read)(const Text *t, char **reterr);
} documents[] = {
        {"manifest",   read_manifest },
        { "trust",     read_trust    },
        { "halt",      read_halt     },
        { "command",   read_command  },
        { "statement", read_statement},
};

static int read_config(const char *path, char **reterr)
{
        _cleanup_(config_freep) Config *c = NULL;

        return config_load(path, &c, reterr);
}

static int read_spec(const char *path, char **reterr)
{
        _cleanup_(spec_done) Spec s = {};

        return spec_load(AT_FDCWD, path, &s, reterr);
}

/* The file is named as the state of an app is: APP.json. */
static int read_state(const char *path, char **reterr)
{
        _cleanup_free_ char *directory = strdup(path), *app = strdup(path);
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_close_ int fd = -EBADF;
        char *dot = app ? strrchr(app, '.') : NULL;

        if (!directory || !dot)
                return -EINVAL;
        *dot = '\0';
        fd = open(dirname(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : state_load(fd, basename(app), &s, reterr);
}

/* What is read by its path. */
static const struct {
        const char *kind;
        int (*read)(const char *path, char **reterr);
} files[] = {
        {"config", read_config},
        { "spec",  read_spec  },
        { "state", read_state },
};

static int verify_envelope(const Text *t, const char *trust_path, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(trust_freep) Trust *trust = NULL;
        _cleanup_(text_done) Text root = {};
        int r = text_read(trust_path, &root, reterr);

        if (r >= 0)
                r = trust_parse(root.data, root.size, &trust, reterr);
        if (r >= 0)
                r = envelope_parse(t->data, t->size, MANIFEST_PAYLOAD_TYPE, &e, reterr);
        return r < 0 ? r : trust_verify_manifest(trust, e, reterr);
}

static int check(const char *kind, const char *path, const char *trust_path, char **reterr)
{
        _cleanup_(text_done) Text t = {};
        int r;

        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                if (streq(files[i].kind, kind))
                        return files[i].read(path, reterr);
        r = text_read(path, &t, reterr);
        if (r < 0)
                return r;
        if (streq(kind, "envelope") && trust_path)
                return verify_envelope(&t, trust_path, reterr);
        for (size_t i = 0; i < ELEMENTSOF(documents); i++)
                if (streq(documents[i].kind, kind))
                        return documents[i].read(&t, reterr);
        return fail(reterr, -EINVAL, "no kind of document is called %s", kind);
}

#define LIMIT(page, limit)            \
        {                             \
                page, #limit, (limit) \
        }

static const struct {
        const char *page, *name;
        uint64_t value;
} limits[] = {
        LIMIT("slipway-manifest.5", ENVELOPE_SIZE_MAX),
        LIMIT("slipway-manifest.5", MANIFEST_SIZE_MAX),
        LIMIT("slipway-manifest.5", N_SIGNATURES_MAX),
        LIMIT("slipway-manifest.5", SIGNATURE_SIZE_MAX),
        LIMIT("slipway-manifest.5", SERIAL_MAX),
        LIMIT("slipway-manifest.5", ARTIFACT_SIZE_MAX),
        LIMIT("slipway-manifest.5", INDEX_SIZE_MAX),
        LIMIT("slipway-manifest.5", PROVENANCE_SIZE_MAX),
        LIMIT("slipway-store.5", PROVENANCE_SIZE_MAX),
        LIMIT("slipway-manifest.5", TARGET_SETS_MAX),
        LIMIT("slipway-manifest.5", TARGET_TAGS_MAX),
        LIMIT("slipway-manifest.5", TARGET_VALUES_MAX),
        LIMIT("slipway-manifest.5", TAG_KEY_SIZE_MAX),
        LIMIT("slipway-manifest.5", TAG_VALUE_SIZE_MAX),
        LIMIT("slipway-manifest.5", WINDOW_SPANS_MAX),
        LIMIT("slipway-manifest.5", WINDOW_SPAN_TEXT_SIZE - 1),
        LIMIT("slipway-manifest.5", NAME_SIZE_MAX - 1),
        LIMIT("slipway-trust.5", ENVELOPE_SIZE_MAX),
        LIMIT("slipway-trust.5", TRUST_KEYS_MAX),
        LIMIT("slipway-trust.5", KEY_FILE_SIZE_MAX),
        LIMIT("slipway-artifact.5", INDEX_SIZE_MAX),
        LIMIT("slipway-artifact.5", FRAMES_MAX),
        LIMIT("slipway-artifact.5", FILES_MAX),
        LIMIT("slipway-artifact.5", FRAME_SIZE_MAX),
        LIMIT("slipway-artifact.5", FRAME_CONTENT_MAX),
        LIMIT("slipway-artifact.5", UINT64_C(1) << FRAME_WINDOW_LOG_MAX),
        LIMIT("slipway-artifact.5", TREE_PATH_SIZE_MAX),
        LIMIT("slipway-artifact.5", TREE_DEPTH_MAX),
        LIMIT("slipway-artifact.5", CHUNK_ENTRY_SIZE_MEAN),
        LIMIT("slipway-artifact.5", CHUNK_ENTRY_SIZE_MAX),
        LIMIT("slipway-artifact.5", CHUNK_RUN_SIZE_MIN),
        LIMIT("slipway-artifact.5", CHUNK_SIZE_MIN),
        LIMIT("slipway-artifact.5", CHUNK_SIZE_MAX),
        LIMIT("slipway-store.5", ENVELOPE_SIZE_MAX),
        LIMIT("slipway-store.5", BRAKE_SIZE_MAX),
        LIMIT("slipway-state.5", STATE_SIZE_MAX),
        LIMIT("slipway-state.5", STATE_HISTORY_MAX),
        LIMIT("slipway-state.5", STATE_CHANNELS_MAX),
        LIMIT("slipway-state.5", STATE_RELEASES_MAX),
        LIMIT("slipway-state.5", SSM_MEMORY_MAX),
        LIMIT("slipway-state.5", SSM_MEMORY_FILE_SIZE_MAX),
        LIMIT("slipway.json.5", SPEC_SIZE_MAX),
        LIMIT("slipway.json.5", ACTIVATE_SHARED_MAX),
        LIMIT("slipway.json.5", ACTIVATE_UNITS_MAX),
        LIMIT("slipway.json.5", ACTIVATE_UNIT_FILES_MAX),
        LIMIT("slipway.json.5", ACTIVATE_COMMANDS_MAX),
        LIMIT("slipway.json.5", ACTIVATE_ARGUMENTS_MAX),
        LIMIT("slipway.json.5", ACTIVATE_HTTP_MAX),
        LIMIT("slipway.json.5", ACTIVATE_VARIABLES_MAX),
        LIMIT("slipway-agent.json.5", CONFIG_SIZE_MAX),
        LIMIT("slipway-agent.json.5", CONFIG_APPS_MAX),
        LIMIT("slipway-agent.json.5", CONFIG_UNITS_MAX),
        LIMIT("slipway-agent.json.5", CONFIG_HOOK_USERS_MAX),
        LIMIT("slipway-agent.json.5", CONFIG_PROVENANCE_MAX),
        LIMIT("slipway-agent.json.5", CONFIG_TAGS_MAX),
};

static int print_limits(void)
{
        for (size_t i = 0; i < ELEMENTSOF(limits); i++)
                printf("%s\t%s\t%" PRIu64 "\n", limits[i].page, limits[i].name, limits[i].value);
        return EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (argc == 2 && streq(argv[1], "limits"))
                return print_limits();
        if (argc < 3 || argc > 4) {
                fprintf(stderr, "usage: man-example KIND FILE [TRUST] | limits\n");
                return 2;
        }
        r = check(argv[1], argv[2], argv[3], &err);
        if (r < 0)
                fprintf(stderr, "%s\n", err_text(r, err));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
