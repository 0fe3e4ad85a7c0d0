/* SPDX-License-Identifier: Apache-2.0 */
#include "spec.h"

#include "err.h"
#include "fd.h"
#include "json-read.h"

static int parse_targets(const cJSON *v, const char *path, void *target, char **reterr)
{
        return targets_parse(v, path, target, reterr);
}

static int parse_activate(const cJSON *v, const char *path, void *target, char **reterr)
{
        return activate_parse(v, path, target, reterr);
}

static const JsonField spec_fields[] = {
        {"targets",      parse_targets, offsetof(Spec, targets), false },
        { "activate", parse_activate, offsetof(Spec, activate), false },
        {   },
};

void spec_done(Spec *s)
{
        targets_done(&s->targets);
        activate_done(&s->activate);
        *s = (Spec){};
}

int spec_default(Spec *ret, char **reterr)
{
        _cleanup_(spec_done) Spec s = {};
        int r = activate_parse(NULL, "activate", &s.activate, reterr);

        if (r < 0)
                return r;
        *ret = s;
        s = (Spec){};
        return 0;
}

int spec_load(int dir_fd, const char *path, Spec *ret, char **reterr)
{
        _cleanup_(spec_done) Spec s = {};
        _cleanup_json_ cJSON *object = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = file_read_at(dir_fd, path, SPEC_SIZE_MAX, &text, &size);

        if (r < 0)
                return fail_errno(reterr, r, "can't read the spec %s", path);
        r = json_parse(text, size, &object, reterr);
        if (r >= 0)
                r = json_dispatch(object, "", spec_fields, &s, reterr);
        if (r >= 0 && !cJSON_HasObjectItem(object, "activate"))
                r = activate_parse(NULL, "activate", &s.activate, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "%s", path);
        *ret = s;
        s = (Spec){};
        return 0;
}
