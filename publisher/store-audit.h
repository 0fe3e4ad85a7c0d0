/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit-findings.h"
#include "macro.h"
#include "root-history.h"
#include "store.h"

/*
 * Checks all that lies in a store against a chain of trust roots: the roots themselves; of each
 * channel manifest.json and every manifest of the history, their order and their signatures; every
 * release that one of them names, each byte of it (audit.h), once.
 *
 * A manifest that the newest root accepts is as it should be. One that only an older root accepts
 * was signed by who might then: keys are replaced, and revoked when they were stolen, and only
 * people know which it was, so it is FINDING_LOOK; where instances are to deploy it now (in
 * manifest.json) it is FINDING_FAILED, as they refuse it. One that no root accepts never was
 * trusted: FINDING_FAILED. What such a manifest names is not looked at.
 *
 * One thing at a time is in memory: one manifest, one index, some MiB of an artifact; besides the
 * names of channels, releases and history entries. Publishers may be at work meanwhile.
 */

typedef struct StoreAuditCounts {
        size_t n_roots, n_apps, n_channels, n_manifests, n_releases;
        uint64_t artifact_bytes; /* that were read */
} StoreAuditCounts;

/* What does not hold becomes a finding; an error is what kept us from finding out. */
_must_check_ int store_audit(Store *s, const RootHistory *roots, AuditFindings *findings,
                             StoreAuditCounts *ret, char **reterr);
