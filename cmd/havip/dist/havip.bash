# Completion of havip's commands, flags and names for bash: copy it to
# /usr/share/bash-completion/completions/havip, or source it. The names are those of the
# running havip, if one answers.

_havip() {
	local cur=${COMP_WORDS[COMP_CWORD]} name
	local -a words=("${COMP_WORDS[@]}")
	local -i cword=COMP_CWORD
	# Names have colons, at which bash breaks words.
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : -c cur -w words -i cword
	fi
	COMPREPLY=()
	# Not compgen -W, which would expand what a name has of the shell's own characters.
	while IFS= read -r name; do
		[[ $name == -* && $cur != -* ]] && continue # flags, when one is begun
		[[ $name == "$cur"* ]] && COMPREPLY+=("$name")
	done < <("${words[@]:0:cword}" --generate-bash-completion 2>/dev/null)
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}
complete -F _havip havip
