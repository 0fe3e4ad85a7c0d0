# shellcheck shell=bash
# Shared by the scripts in this folder and by tests/e2e/make. Source it with `set -euo pipefail` in force.

# a failure inside $(…) ends the script as well
shopt -s inherit_errexit

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
