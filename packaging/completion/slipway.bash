# shellcheck shell=bash
# Completion of slipway(1) for bash: verbs, options, and this host's applications and releases. tests/check-completion.py
# compares it with --help.

# _slipway_names MEMBER COMMAND...: the values that a member has in the JSON that COMMAND prints. They are names, which
# need no unescaping; a text that holds such a member has its quotes escaped, and is passed over.
_slipway_names() {
        local member=$1
        shift
        "$@" 2>/dev/null | tr ',{}[]' '\n' |
                sed -n 's/^[[:space:]]*"'"$member"'":[[:space:]]*"\([A-Za-z0-9._-]*\)"[[:space:]]*$/\1/p' | sort -u
}

# _slipway_reply WORDS: those that the present word begins.
_slipway_reply() {
        mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

# _slipway_files KIND: files (-f) or directories (-d).
_slipway_files() {
        # fails where no completion is under way: in the test
        compopt -o filenames 2>/dev/null || :
        mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

_slipway_options() {
        local options='--json --user --config --help --version'
        case $verb in
        '') options+=' --watch --wait --output --file --index --manifest --until --reason' ;;
        status) options+=' --watch' ;;
        poll) options+=' --wait' ;;
        report | metrics) options='--output --user --config --help --version' ;;
        deploy) options+=' --file --index --manifest --wait' ;;
        hold) options+=' --until --reason' ;;
        exec) options='' ;;
        esac
        _slipway_reply "$options"
}

_slipway_arguments() {
        case $verb:${#arguments[@]} in
        check:* | report:* | metrics:*) ;;
        exec:0) _slipway_files -d ;;
        exec:*) _slipway_files -f ;;
        *:0) _slipway_reply "$(_slipway_names app "${ask[@]}" status)" ;;
        rollback:1 | verify:1) _slipway_reply "$(_slipway_names release "${ask[@]}" releases "${arguments[0]}")" ;;
        esac
}

_slipway() {
        local line=${COMP_LINE:0:COMP_POINT} cur verb='' option='' word
        local -a words arguments=() ask=(slipway --json)
        # not COMP_WORDS: it is cut at the colons of times
        read -ra words <<<"$line"
        [[ $line != *[[:space:]] ]] || words+=('')
        cur=${words[-1]}
        for word in "${words[@]:1:${#words[@]}-2}"; do
                case $option:$word in
                --config:*) ask+=(--config "$word") option='' ;;
                --*:*) option='' ;;
                :--config | :--output | :--file | :--index | :--manifest | :--until | :--reason) option=$word ;;
                :--user | :--config=*) ask+=("$word") ;;
                :-*) ;;
                *) if [[ -z $verb ]]; then verb=$word; else arguments+=("$word"); fi ;;
                esac
        done
        if [[ -z $option && $cur == --*=* ]]; then
                option=${cur%%=*} cur=${cur#*=}
        fi
        COMPREPLY=()
        case $option:$cur in
        --until:* | --reason:*) ;;
        --*:*) _slipway_files -f ;;
        :-*) _slipway_options ;;
        *)
                if [[ -n $verb ]]; then
                        _slipway_arguments
                else
                        _slipway_reply 'status history releases poll check due plan stage activate deploy confirm
                                rollback verify hold resume report metrics exec'
                fi
                ;;
        esac
}

complete -F _slipway slipway
