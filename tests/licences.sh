#!/bin/sh
# Checks every crate that ctr is made of against .cargo/deny.toml: its licence is allowed there, and
# it comes from the registry. What `cargo deny check licenses sources` does, where that is missing.
set -eu
cd "$(dirname "$0")/.."

cargo metadata --format-version 1 --locked --filter-platform "$(cargo -vV | sed -n 's/^host: //p')" |
	jq -r '.packages[] | select(.name != "ctr") | [.name, .version, .license // "none", .source // "none"] | @tsv' |
	awk -F '\t' '
		# The allowed ones stand in [licenses] between "allow = [" and "]".
		FNR == NR { if (/^allow = \[/) on = 1; else if (/^\]/) on = 0; else if (on) { gsub(/^ *"|",? *$/, ""); allowed[$0] }; next }
		# An alternative is good when every licence that it joins is; an expression when one alternative is.
		# Parentheses only ever stand around alternatives that are one part of a conjunction.
		function alternatives(text,    parts, n, i) {
			n = split(text, parts, / OR | ?\/ ?/)
			for (i = 1; i <= n; i++) if (conjunction(parts[i])) return 1
			return 0
		}
		function conjunction(text,    parts, n, i) {
			n = split(text, parts, / AND /)
			for (i = 1; i <= n; i++) if (!(parts[i] in allowed)) return 0
			return 1
		}
		function good(text,    parts, n, i) {
			if (text !~ /\(/) return alternatives(text)
			n = split(text, parts, /\) AND | AND \(|^\(|\)$/)
			for (i = 1; i <= n; i++) if (parts[i] != "" && !alternatives(parts[i])) return 0
			return 1
		}
		!good($3) { print $1 " " $2 ": the licence \"" $3 "\" is not allowed"; bad = 1 }
		$4 !~ /^(registry|sparse)\+/ { print $1 " " $2 ": comes from \"" $4 "\", not from the registry"; bad = 1 }
		END { if (!FNR) { print "no crate was seen"; bad = 1 }; exit bad }
	' .cargo/deny.toml -
