/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "instance.h"
#include "macro.h"
#include "manifest.h"
#include "remote-order.h"
#include "ssm-channel.h"

/*
 * The agent's configuration: /etc/slipway/agent.json, and drop-ins beside it in agent.d/, read in
 * the bytewise order of their names (*.json only, none that starts with a dot). Members of a
 * drop-in replace those of what was read before it, whole; only its apps are added to the others.
 *
 *   { "store": "s3://acme-deploy",                 where releases are published
 *     "instance": "i-0abc",
 *     "region": "eu-central-1", "zone": "eu-central-1a", "tags": { "Stage": "prod" },
 *     "poll": { "interval": "15s", "jitter": "20%",           1s to 24h; 0% to 100%
 *               "halt_wait": "10min" },             0s to 24h
 *     "report": true,                              write status reports to the store
 *     "ready": "started",                          "deployed": after the first round
 *     "ready_limit": "5min",                       1s to 1h
 *     "trust": "/etc/slipway/trust/root.json",
 *     "metadata": { "interval": "1min" },          how often EC2 is asked for the tags; 1s to 24h
 *     "ssm": { "enabled": false,                   take orders through AWS Systems Manager
 *              "channel": "auto",                  or "ec2messages", "ssmmessages"
 *              "allow": ["poll", "deploy", "rollback", "hold", "resume", "confirm", "status"] },
 *     "apps": [ { "app": "web", "channel": "{tag:Stage}",     both needed
 *                 "root": "/srv/{app}",
 *                 "manifest": "{app}/channels/{channel}/manifest.json",      path in the store
 *                 "units": ["{app}.service", "{app}@*.service"],
 *                 "unit_files": [],                which units its releases may bring
 *                 "hook_users": ["{app}"],         as whom its commands may run
 *                 "provenance": { "builders": ["https://ci.example/{app}@*"],
 *                                 "repositories": ["github.com/acme/web"] },   not asked for
 *                 "update_lock": "1h",             how long the app may hold updates off
 *                                                  (update-lock.h); 0s to 24h
 *                 "activate": "auto",              "manual": new releases are staged only
 *                 "disk": { "budget": "2G", "reserve": "256M" },
 *                 "keep": 5 } ] }                  releases to keep on disk, 2 to 100
 *
 * The values shown for poll, report, ready, trust, metadata, ssm and below apps (but app, channel
 * disk and provenance) are the defaults. "units" are fnmatch(3) patterns of the units that the
 * app's manifests may name; a backslash stands for itself. "unit_files" are such patterns of the
 * units whose files its releases may bring: who brings a unit's file says what systemd runs, as
 * root if it likes. disk: what the app's releases may take together (default: no limit), and what a
 * deployment leaves free on the file systems that it writes to (default: a twentieth, at most
 * 256M); sizes as in size-text.h, at least 1M for the budget. "hook_users" are the users that the
 * app's hooks and command probes may ask for; the first one has those that ask for none, root only
 * if it is listed. "provenance" asks for statements of where releases come from (vetting.h): by
 * whom they were built and of what, as fnmatch(3) patterns in which "*" stands for slashes, too;
 * one of both may be missing: then any will do. "ready": when systemd is told READY=1; with
 * "deployed" at the latest after ready_limit.
 *
 * channel, root, manifest, units, unit_files, hook_users and the patterns of provenance may hold
 * {app}, {channel} (but not channel itself), {instance-id}, {region}, {zone} and {tag:Key}. What is
 * filled in must have the form of a name (name_is_valid()), so that a tag can neither lead a path
 * elsewhere nor widen a pattern.
 *
 * What the files leave out, the instance tells (instance.h): "instance", "region", "zone" and
 * "tags" one by one; the tags slipway:store (s3:// or https:// only: file:// says what
 * slipway-fetch may touch here), and slipway:app with slipway:channel, stand for "store" and
 * "apps". Without an instance, "instance" is the host's name.
 */

#define CONFIG_SIZE_MAX       (256 * 1024) /* of one file */
#define CONFIG_APPS_MAX       64
#define CONFIG_UNITS_MAX      64 /* patterns of one app */
#define CONFIG_HOOK_USERS_MAX 16
#define CONFIG_PROVENANCE_MAX 64 /* patterns of one kind */
#define CONFIG_TAGS_MAX       64

/* Where releases have to come from. A list without patterns allows all. */
typedef struct ProvenancePolicy {
        bool required;
        char **builders, **repositories;
        size_t n_builders, n_repositories;
} ProvenancePolicy;

typedef struct AppConfig {
        char *app, *channel;
        char *root;          /* absolute, without "." and ".." */
        char *manifest_path; /* store_path_is_valid() */
        char **units;
        size_t n_units;
        char **unit_files;
        size_t n_unit_files;
        char **hook_users;
        size_t n_hook_users;
        ProvenancePolicy provenance;
        unsigned keep;
        uint64_t budget_bytes;  /* 0: none */
        uint64_t reserve_bytes; /* or ROOM_RESERVE_DEFAULT */
        uint64_t update_lock_usec;
        bool activate_by_hand; /* "activate": "manual" */
} AppConfig;

/* Orders through AWS Systems Manager (orders.h). */
typedef struct SsmConfig {
        bool enabled;
        SsmChannel channel;
        bool allowed[_ORDER_ACTION_MAX]; /* which ones */
} SsmConfig;

#define CONFIG_FROM_FILES     "configuration"
#define CONFIG_FROM_METADATA  "metadata"
#define CONFIG_FROM_HOST_NAME "host name"

typedef struct Config {
        char *store;
        char *instance;                /* name_is_valid() */
        char *region, *zone, *account; /* NULL: unknown */
        const char *instance_from;     /* one of the words above */
        const char *tags_from;         /* the first of them, or Instance.tags_from */
        char *tags_error;              /* why there are no tags, as in Instance; or NULL */
        Tag *tags;
        size_t n_tags;
        bool has_tags; /* the files have "tags", be they empty */
        uint64_t metadata_interval_usec;
        SsmConfig ssm;
        uint64_t poll_interval_usec;
        unsigned jitter_percent;
        uint64_t halt_wait_usec;
        uint64_t bandwidth_bytes; /* a second, of objects; 0: no limit */
        bool report;
        bool ready_when_deployed;
        uint64_t ready_limit_usec;
        char *trust_path;
        AppConfig *apps;
        size_t n_apps;
} Config;

/* The files, read and parsed once: what is resolved from them later does not change with them. */
typedef struct ConfigSource ConfigSource;

/* Reads the configuration at `path` and its drop-ins. Any error names file, line and member. With
 * `optional` the file may be missing. */
_must_check_ int config_read(const char *path, bool optional, ConfigSource **ret, char **reterr);
ConfigSource *config_source_free(ConfigSource *s);
DEFINE_CLEANUP_FUNC(ConfigSource *, config_source_free);

/* What holds whoever this host is; store, instance, tags and apps as the files have them, their
 * placeholders in them. */
const Config *config_source_settings(const ConfigSource *s);

/* What holds for this host; `instance` NULL: for all that the files say. Errors name file, line
 * and member. -ENODATA: something is missing that an instance's metadata or tags could tell;
 * *reterr says what. No app comes twice, and no app's root lies in another's. */
_must_check_ int config_resolve(const ConfigSource *s, const Instance *instance, Config **ret,
                                char **reterr);

/* Both at once, without an instance. */
_must_check_ int config_load(const char *path, Config **ret, char **reterr);

Config *config_free(Config *c);
DEFINE_CLEANUP_FUNC(Config *, config_free);

/* Whether both, of the same source, deploy the same from and to the same places, under the same
 * name: all is equal but the rest of the identity. */
bool config_deploys_equal(const Config *a, const Config *b);

/* Whether who this host is is the same in both: name, region, zone, account and tags, with where
 * they are from. */
bool config_identity_equal(const Config *a, const Config *b);

/* Moves all that, but for the name, to `c`. */
void config_take_identity(Config *c, Config *from);

/* True if the app's manifests may name this unit. */
bool config_allows_unit(const AppConfig *a, const char *unit);

/* True if the app's releases may bring this unit's file. */
bool config_allows_unit_file(const AppConfig *a, const char *unit);

/* True if the app's releases may be built by this builder (its URI), or of this repository
 * ("github.com/acme/web"; NULL: not known). */
bool config_allows_builder(const AppConfig *a, const char *builder);
bool config_allows_repository(const AppConfig *a, const char *repository);

/* The user that a command of the app runs as; NULL: the configuration does not allow the one that
 * it asks for. */
const char *config_command_user(const AppConfig *a, const Command *c);
