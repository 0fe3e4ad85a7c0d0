# shellcheck shell=bash
# Completion of slipway-publish(1) for bash: verbs, options and files. tests/check-completion.py compares it with --help.

# _slipway_publish_reply WORDS: those that the present word begins.
_slipway_publish_reply() {
        mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_slipway_publish_files() {
        # fails where no completion is under way: in the test
        compopt -o filenames 2>/dev/null || :
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

_slipway_publish_options() {
        local place='--store --app --channel' options=''
        case $verb in
        keygen) options='--type' ;;
        'trust init') options='--key --output --threshold --root-key --root-threshold --expires --sign --store' ;;
        'trust show') options='--after --store --output' ;;
        'trust edit')
                options='--output --add-key --remove-key --threshold --add-root-key --remove-root-key --root-threshold --expires'
                ;;
        'trust sign') options='--key --after' ;;
        'trust publish') options='--store --trust' ;;
        import) options='--unit --output' ;;
        release) options="$place --key --spec --id --builder --level --expires --window --trust" ;;
        promote) options='--store --app --from --to --key --spec --expires --window --trust' ;;
        rollback) options="$place --key --expires --window --trust" ;;
        refresh) options="$place --key --expires --within --trust" ;;
        halt | unhalt) options=$place ;;
        verify) options="$place --trust --all" ;;
        log) options="$place --number" ;;
        esac
        if [[ -n $options ]]; then
                _slipway_publish_reply "$options --json --help"
        else
                _slipway_publish_reply '--help --version'
        fi
}

_slipway_publish_value() {
        case $option in
        --key | --root-key | --sign | --trust | --after | --spec | --output | -o) _slipway_publish_files ;;
        --add-key | --remove-key | --add-root-key | --remove-root-key) _slipway_publish_files ;;
        --type) _slipway_publish_reply 'ed25519 ecdsa-p256' ;;
        esac
}

_slipway_publish() {
        local line=${COMP_LINE:0:COMP_POINT} cur verb='' option=''
        local -a words
        # not COMP_WORDS: it is cut at the colons of stores
        read -ra words <<<"$line"
        [[ $line != *[[:space:]] ]] || words+=('')
        cur=${words[-1]}
        if ((${#words[@]} > 2)); then
                verb=${words[1]} option=${words[-2]}
                if [[ $verb == trust ]] && ((${#words[@]} > 3)); then
                        verb="trust ${words[2]}"
                fi
        fi
        if [[ $cur == --*=* ]]; then
                option=${cur%%=*} cur=${cur#*=}
        fi
        COMPREPLY=()
        case $verb:$option:$cur in
        *:--json:-* | *:--help:-* | *:--all:*) _slipway_publish_options ;;
        *:--json:* | *:--help:*) _slipway_publish_files ;;
        *:-*:*) _slipway_publish_value ;;
        *:-*) _slipway_publish_options ;;
        :*) _slipway_publish_reply 'keygen trust import release promote rollback refresh halt unhalt verify log' ;;
        trust:*) _slipway_publish_reply 'init show edit sign publish' ;;
        'trust init':*) ;;
        import:* | release:* | 'trust '*) _slipway_publish_files ;;
        esac
}

complete -F _slipway_publish slipway-publish
