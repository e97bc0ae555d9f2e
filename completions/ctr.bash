# What TAB completes behind ctr, for bash 4.2 and later, with and without the package bash-completion.
#
#   source <(ctr completion bash)      in ~/.bashrc; for all users this file is
#                                      /usr/share/bash-completion/completions/ctr
#   alias docker=ctr                   is completed alike after
#   complete -F _ctr docker
#
# ctr itself is asked for the candidates: this file knows no commands.

_ctr() {
	local line=${COMP_LINE:0:COMP_POINT} word rest answer directive candidate head prefix quote
	local -a words=()
	local -i i
	COMPREPLY=()

	# Readline splits at colons and equals signs, where the shell does not: what no blank parts is one.
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		rest=${line#"${line%%[![:blank:]]*}"}
		# The word at the cursor ends there.
		((i < COMP_CWORD)) || word=$rest
		if ((i > 0)) && [[ $rest == "$line" ]]; then
			words[${#words[@]} - 1]+=$word
		else
			words+=("$word")
		fi
		line=${rest#"$word"}
	done
	((${#words[@]} > 1)) || return 0

	local current=${words[${#words[@]} - 1]} last=${words[${#words[@]} - 2]}
	# Where output goes to and input comes from is the shell's.
	if [[ $current == *[\<\>]* || $last == *[\<\>] ]]; then
		compopt -o default 2>/dev/null
		return 0
	fi
	quote=
	if [[ $current == [\"\']* ]]; then
		quote=${current:0:1}
		current=${current:1}
	fi
	for i in "${!words[@]}"; do
		word=${words[i]//[\"\'\\]/}
		# shellcheck disable=SC2088 # as it was typed
		[[ $word != "~/"* ]] || word=$HOME/${word:2}
		words[i]=$word
	done
	words[${#words[@]} - 1]=$current

	# A path that was typed is asked itself, and not another ctr.
	local program=ctr
	[[ ${words[0]} != */* ]] || program=${words[0]}
	answer=$("$program" __completeNoDesc "${words[@]:1}" 2>/dev/null) || return 0
	directive=${answer##*:}
	[[ $directive == [0-9]* ]] || return 0
	answer=${answer%:*}

	# Candidates for `--flag=` are without it; readline wants what stands behind its last word break.
	prefix=
	[[ $current != -*=* ]] || prefix=${current%%=*}=
	head=
	if [[ -z $quote ]]; then
		for word in : = @; do
			[[ $COMP_WORDBREAKS == *"$word"* && $current == *"$word"* ]] || continue
			rest=${current##*"$word"}
			rest=${current%"$rest"}
			((${#rest} <= ${#head})) || head=$rest
		done
	fi
	while IFS= read -r candidate; do
		candidate=$prefix$candidate
		[[ $candidate == "$current"* && $candidate != "$prefix" ]] || continue
		COMPREPLY+=("${candidate#"$head"}")
	done <<<"$answer"

	if ((${#COMPREPLY[@]} > 0)); then
		((directive & 2)) && compopt -o nospace 2>/dev/null
	elif ((directive & 16)); then
		compopt -o dirnames 2>/dev/null
	elif ! ((directive & 4)); then
		compopt -o default 2>/dev/null
	fi
	return 0
}

complete -F _ctr ctr
