/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "fetcher.h"
#include "macro.h"
#include "manifest.h"

/*
 * Whether a release comes from where this host's configuration wants its releases from
 * (ProvenancePolicy), by its provenance (common/provenance.h), which also says what that is good
 * for and what not. It comes through slipway-fetch into the spool like the index, is copied and
 * compared with the digest in the signed manifest, and only then parsed: slipway-fetch can keep it
 * from coming, and nothing else. Its own signatures don't count: the manifest's are on its digest,
 * and are by the keys of now, while those on a release that was made before keys were replaced are
 * not.
 *
 * It is asked of each deployment of the channel and from files (which may bring it along, else the
 * store has it), also of what is only staged, before anything of the release is fetched; also when
 * the release is on this host already, from before the policy or by another channel. Not of what is
 * live, also when its links have to be made anew, of making live what was staged, or of going back:
 * these need no network, and the release was judged when it came.
 */

typedef struct Vetting Vetting;

/* 0: it fits. -EBADMSG: it does not, or the manifest has none: trying again is no use. Anything
 * else may pass. The vetting may be freed here. */
typedef void (*vetting_done_t)(int result, const char *reason, void *userdata);

/* A slipway-fetch that was taken over might let bytes trickle in for weeks. */
#define VETTING_TIMEOUT_USEC (UINT64_C(10) * 60 * 1000000)

/* Begins; app and manifest must outlive it. done() is never called from in here; after the timeout
 * with -ETIMEDOUT. */
_must_check_ int vetting_start(sd_event *event, Fetcher *fetcher, const AppConfig *app,
                               const Manifest *manifest, uint64_t timeout_usec, vetting_done_t done,
                               void *userdata, Vetting **ret, char **reterr);

/* Ends it, without calling back; nothing stays in the spool. */
Vetting *vetting_free(Vetting *v);
DEFINE_CLEANUP_FUNC(Vetting *, vetting_free);

/* The same for a provenance that is a file. -EKEYREJECTED: it is not the one that was signed. */
_must_check_ int vetting_judge_file(const AppConfig *app, const Manifest *manifest, int fd,
                                    char **reterr);

/* Whether the file is the provenance that the manifest names; for the choice among several. */
bool vetting_file_fits(const Manifest *manifest, int fd);

/* What is judged of a statement that was verified: the policy, and provenance_check(). -EBADMSG. */
_must_check_ int vetting_judge(const AppConfig *app, const Manifest *manifest, const char *data,
                               size_t size, char **reterr);
