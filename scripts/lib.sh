# shellcheck shell=bash
# Shared by the scripts in this folder and by tests/e2e/make. Source it with `set -euo pipefail` in force.

# Everything that takes long to make and that no checkout owns: test roots, the Python environment, the npm tree.
cache_dir="${SLIPWAY_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/slipway}"

say() { printf '== %s\n' "$*" >&2; }

die() {
        printf '%s: %s\n' "${0##*/}" "$*" >&2
        exit 1
}

# os_codename: the suite this machine runs, e.g. bookworm; empty where there is no such thing (Amazon Linux).
os_codename() {
        (. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
}

# apt_sources SUITE: one-line entries of the machine's own mirrors for its suite, with updates and security.
apt_sources() {
        apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
                awk -v suite="$1" '$2 == suite || index($2, suite "-") == 1 { print "deb", $1, $2, $3 }' | sort -u
}

# apt_mirror: where the machine gets its own suite from; the same mirror carries the other suites of the distribution.
apt_mirror() {
        apt_sources "$(os_codename)" | awk -v suite="$(os_codename)" '$3 == suite { print $2; exit }'
}

# apt_options FILE: writes the machine's settings for reaching its mirror (proxies, checks of dates).
apt_options() {
        apt-config dump --no-empty --format '%F "%v";%n' \
                Acquire::http Acquire::https Acquire::Check-Valid-Until Acquire::Check-Date >"$1"
}

# remove_tree DIR: never crosses into something that is still mounted below it.
remove_tree() {
        if awk -v dir="$1/" 'index($5, dir) == 1 { found = 1 } END { exit !found }' /proc/self/mountinfo; then
                die "cannot remove $1: something is mounted below it"
        fi
        rm -rf --one-file-system -- "$1"
}

# cached NAME MAKER: prints the directory that MAKER made, making it first if it is missing.
# MAKER key prints whatever else it is made from, MAKER make DIR fills DIR. The entry is named after the hash of MAKER, this
# library and that key; it is made aside and renamed, so that a half-made one is never found.
cached() (
        name=$1 maker=$2
        inputs=$("$maker" key)
        hash=$(cat -- "$maker" "${BASH_SOURCE[0]}" - <<<"$inputs" | sha256sum | cut -c1-16)
        entry=$cache_dir/$name-$hash
        mkdir -p "$cache_dir"
        exec 9>"$cache_dir/$name.lock"
        flock 9
        if [ ! -d "$entry" ]; then
                say "making $entry (kept for later runs)"
                partial=$(mktemp -d "$cache_dir/$name.partial.XXXXXX")
                trap 'remove_tree "$partial"' EXIT
                chmod 0755 "$partial"
                started=$SECONDS
                "$maker" make "$partial" >&2
                mv -T -- "$partial" "$entry"
                trap - EXIT
                say "made $name in $((SECONDS - started)) s"
        fi
        touch -- "$entry"
        drop_old "$name"
        printf '%s\n' "$entry"
)

# drop_old NAME: removes what no run has used for two weeks, and what an ended run left half-made (the caller holds the lock).
drop_old() {
        local old
        find "$cache_dir" -mindepth 1 -maxdepth 1 -type d \
                \( -name "$1-????????????????" -mtime +14 -o -name "$1.partial.*" \) -print |
                while read -r old; do
                        say "removing $old: unused"
                        remove_tree "$old"
                done
}
