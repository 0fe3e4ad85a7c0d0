/* SPDX-License-Identifier: Apache-2.0 */
#include "live.h"

#include "err.h"
#include "linking.h"
#include "unit-files.h"

Live live_check(const Site *site, const Activate *activate, char **ret_text)
{
        const char *release = site->state->current, *root = site->config->root;
        _cleanup_free_ char *link = NULL;
        int r = site_read_current(site, &link);

        *ret_text = NULL;
        if (!release)
                return LIVE_WHOLE;
        if (r < 0) {
                err_set(ret_text, "%s/current is no link to a release any more: move it away",
                        root);
                return LIVE_CHANGED;
        }
        if (link && !streq(link, release)) {
                err_set(ret_text, "%s/current was changed by hand to release %s", root, link);
                return LIVE_CHANGED;
        }
        if (!link)
                err_set(ret_text, "%s/current is gone", root);
        else if (!site_has_release(site, release))
                err_set(ret_text, "%s/releases/%s is gone", root, release);
        else if (linking_is_done(site->releases_fd, release, activate) == 0)
                err_set(ret_text, "it lacks links to shared/");
        else if (!unit_files_are_linked(site, activate))
                err_set(ret_text, "links to its unit files are gone");
        else
                return LIVE_WHOLE;
        return LIVE_DAMAGED;
}
