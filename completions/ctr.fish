# What TAB completes behind ctr, for fish 3 and later.
#
#   ctr completion fish | source       in ~/.config/fish/config.fish; for all users this file is
#                                      /usr/share/fish/vendor_completions.d/ctr.fish
#   alias docker=ctr                   is completed alike as it is; a link of that name after
#   complete -c docker -w ctr
#
# ctr itself is asked for the candidates: this file knows no commands.

function __ctr_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l typed (string replace -r '^["\']' '' -- $current)

    # A path that was typed is asked itself, and not another ctr.
    set -l program ctr
    string match -q -- '*/*' $words[1]; and set program $words[1]
    set -l answer ($program __complete $words[2..-1] "$typed" 2>/dev/null); or return
    set -l directive (string replace -r '^:' '' -- $answer[-1])
    string match -qr '^[0-9]+$' -- $directive; or return

    # Candidates for `--flag=` are without it, and fish replaces the whole word.
    set -l prefix (string match -r -- '^-[^=]*=' $typed)
    for line in $answer[1..-2]
        echo -- "$prefix$line"
    end
    if test (math "bitand($directive, 16)") -ne 0
        __fish_complete_directories (string replace -- "$prefix" '' $typed) | string replace -r '^' -- "$prefix"
    else if test (math "bitand($directive, 4)") -eq 0
        __fish_complete_path (string replace -- "$prefix" '' $typed) | string replace -r '^' -- "$prefix"
    end
end

complete -c ctr -f -a '(__ctr_complete)'
