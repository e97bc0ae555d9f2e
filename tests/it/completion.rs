//! TAB, in the shells themselves: `completions/` and the answers of `ctr __complete`.

use std::fs;
use std::process::Command;

use crate::support::{Sandbox, Terminal, both, skipped};

/// A program `ctr` on the PATH that works in this sandbox, as an alias with flags would.
fn on_path(cx: &Sandbox) -> String {
    use std::os::unix::fs::PermissionsExt;
    let dir = cx.make_dir("bin");
    let script = cx.make_file("bin/ctr", format!("#!/bin/sh\nexec {} \"$@\"\n", cx.ctr_words()));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        cx.make_file(&format!("{shell}.rc"), cx.ctr(&format!("completion {shell}")).succeeds() + "\n");
    }
    cx.make_file("cwd/some.env", "A=1\n");
    format!("{}:/usr/local/bin:/usr/bin:/bin", dir.display())
}

fn is_installed(shell: &str) -> bool {
    let found = Command::new(shell).arg("--version").output().is_ok();
    if !found {
        skipped(&format!("{shell} is not installed"));
    }
    found
}

/// A world with something of each kind in it.
fn populate(cx: &Sandbox) {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr("create --name old busybox true").succeeds();
    cx.ctr("network create front").succeeds();
    cx.ctr_reads("secret create key -", "x").succeeds();
}

/// Runs bash's function for a line up to the cursor, with the words that readline makes of it: split at
/// blanks and at `COMP_WORDBREAKS`, which are words themselves. What came, and what is done with it.
const BASH: &str = r#"
complete_line() {
	local line=$1 word= char
	COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=()
	options=
	local -i i
	for ((i = 0; i < ${#line}; i++)); do
		char=${line:i:1}
		case $char in
		' ') [[ -z $word ]] || COMP_WORDS+=("$word"); word= ;;
		[:=@])
			if [[ -n $word && $word != *[:=@] ]]; then COMP_WORDS+=("$word"); word=; fi
			word+=$char
			;;
		*)
			if [[ $word == *[:=@] ]]; then COMP_WORDS+=("$word"); word=; fi
			word+=$char
			;;
		esac
	done
	if [[ $word == *[:=@] ]]; then COMP_WORDS+=("$word"); word=; fi
	COMP_WORDS+=("$word")
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	_ctr ctr "$word" ''
	echo "$line|${COMPREPLY[*]}|$options"
}
compopt() { options+=$2; }
"#;

both!(bash_is_answered, |cx| {
    let path = on_path(cx);
    populate(cx);
    let cases = [
        ("ctr st", "start stats stop", ""),
        ("ctr container st", "start stats stop", ""),
        ("ctr --root /nowhere sto", "stop", ""),
        ("ctr stop ", "box", ""),
        ("ctr stop box ", "", ""),
        ("ctr stop \"b", "box", ""),
        ("ctr start ", "old", ""),
        ("ctr rm ", "old", ""),
        ("ctr rm --force ", "old box", ""),
        ("ctr rm -f ", "old box", ""),
        ("ctr exec -it ", "box", ""),
        ("ctr exec -it box ", "", ""),
        ("ctr run --net", "--network --network-alias", ""),
        ("ctr run --network ", "bridge front host none pasta container:", ""),
        ("ctr run --network=", "bridge front host none pasta container:", ""),
        ("ctr run --network=fr", "front", ""),
        ("ctr run --network con", "container:", "nospace"),
        ("ctr run --network container:", "box", ""),
        ("ctr run --network=container:b", "box", ""),
        ("ctr run --pull=", "always missing never", ""),
        ("ctr run --env-file so", "", "default"),
        ("ctr run --env-file=so", "", "default"),
        ("ctr run busybox --net", "", ""),
        ("ctr --root ", "", "dirnames"),
        ("ctr network rm ", "front", ""),
        ("ctr network connect front ", "old box", ""),
        ("ctr network inspect ", "bridge front host none", ""),
        ("ctr secret rm ", "key", ""),
        ("ctr rmi ", "busybox:latest", ""),
        ("ctr rmi busy", "busybox:latest", ""),
        ("ctr rmi busybox:", "latest", ""),
        ("ctr rmi busybox:la", "latest", ""),
        ("ctr ps --filter stat", "status=created status=exited status=paused status=running", ""),
        ("ctr ps --filter=status=ex", "exited", ""),
        ("ctr ps --filter anc", "ancestor=", "nospace"),
        ("ctr cp b", "box:", "nospace"),
        ("ctr cp box:/et", "/etc/", "nospace"),
        ("ctr cp old:/et", "/etc/", "nospace"),
        ("ctr cp old:et", "etc/", "nospace"),
        ("ctr cp box:/etc/gro", "/etc/group", ""),
        ("ctr cp box:/nosuch/", "", ""),
        ("ctr cp nosuch:/et", "", ""),
        ("ctr cp ./s", "", "default"),
        ("ctr cp some.env box:/tmp/../et", "/tmp/../etc/", "nospace"),
        ("ctr cp box:/etc so", "", "default"),
        ("ctr ps >s", "", "default"),
        ("ctr inspect --type network fr", "front", ""),
        ("ctr nosuch ", "", ""),
    ];
    let lines: String = cases.iter().map(|(line, ..)| format!("complete_line '{line}'\n")).collect();
    let script = format!("source '{}'\n{BASH}\n{lines}", cx.dir.join("bash.rc").display());
    let ran = cx.host_command("bash").args(["--norc", "-c", &script]).env("PATH", path).output().unwrap();
    let expected: String = cases.iter().map(|(line, words, done)| format!("{line}|{words}|{done}\n")).collect();
    assert_eq!(
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)),
        (expected.into(), "".into())
    );
});

/// What a person sees on a line after TAB, in a shell that runs in a terminal.
fn press(cx: &Sandbox, shell: &str) {
    let terminal = Terminal::open(cx);
    terminal.line(shell);
    terminal.ends_with("$ ");
    let cases = [
        ("ctr stop ", "ctr stop box"),
        ("ctr rmi busybox:", "ctr rmi busybox:latest"),
        ("ctr run --network=fr", "ctr run --network=front"),
        ("ctr run --env-file=so", "ctr run --env-file=some.env"),
        ("ctr network rm fr", "ctr network rm front"),
        ("ctr ps --filter=status=ru", "ctr ps --filter=status=running"),
        ("ctr run --pid=container:b", "ctr run --pid=container:box"),
        ("ctr cp bo", "ctr cp box:"),
        ("ctr cp box:/et", "ctr cp box:/etc/"),
        ("ctr cp old:/etc/gro", "ctr cp old:/etc/group"),
        ("ctr cp some.env box:/et", "ctr cp some.env box:/etc/"),
        ("ctr secret r", "ctr secret rm"),
        ("docker star", "docker start"),
    ];
    for (typed, completed) in cases {
        terminal.types(typed);
        terminal.keys(&["Tab"]);
        terminal.ends_with(&format!("$ {completed}"));
        terminal.keys(&["C-u"]);
        terminal.ends_with("$ ");
    }
}

/// The line that starts a shell with nothing but the script in it.
fn starts(cx: &Sandbox, path: &str, command: &str) -> String {
    format!("clear; exec env PATH='{path}' HOME='{}' PS1='$ ' {command}", cx.home().display())
}

both!(bash_completes, |cx| {
    let path = on_path(cx);
    populate(cx);
    let rc = "PS1='$ '\nsource ../bash.rc\nalias docker=ctr\ncomplete -F _ctr docker\n";
    cx.make_file("cwd/rc", rc);
    press(cx, &starts(cx, &path, "bash --rcfile rc"));
    // The package has functions of its own for words and colons.
    cx.make_file("cwd/rc", format!("source /usr/share/bash-completion/bash_completion\n{rc}"));
    press(cx, &starts(cx, &path, "bash --rcfile rc"));
});

both!(zsh_completes, |cx| {
    if !is_installed("zsh") {
        return;
    }
    let path = on_path(cx);
    populate(cx);
    cx.make_file(
        "home/.zshrc",
        "PS1='$ '\nautoload -Uz compinit\ncompinit -u -D\nsource ../zsh.rc\nalias docker=ctr\n",
    );
    press(cx, &starts(cx, &path, "zsh -d"));
    // As a file of $fpath, which is how packages install it.
    fs::copy(cx.dir.join("zsh.rc"), cx.make_dir("fpath").join("_ctr")).unwrap();
    cx.make_file(
        "home/.zshrc",
        "PS1='$ '\nfpath=(../fpath $fpath)\nautoload -Uz compinit\ncompinit -u -D\nalias docker=ctr\n",
    );
    press(cx, &starts(cx, &path, "zsh -d"));
});

both!(fish_completes, |cx| {
    if !is_installed("fish") {
        return;
    }
    let path = on_path(cx);
    populate(cx);
    cx.make_file("cwd/rc", "function fish_prompt\n echo -n '$ '\nend\nset fish_greeting\nset -g fish_autosuggestion_enabled 0\nsource ../fish.rc\nalias docker=ctr\n");
    press(cx, &starts(cx, &path, "fish --no-config --init-command 'source rc'"));
});

both!(the_answer_is_cobras, |cx| {
    cx.ctr("__complete netw").prints("network\tManage networks\n:4\n");
    cx.ctr("__completeNoDesc netw").prints("network\n:4\n");
    cx.ctr("__complete rename ''").prints(":4\n");
    cx.ctr("__complete run --env-file ''").prints(":0\n");
    cx.ctr("__complete nosuch ''").prints(":4\n");
    cx.ctr("__complete").succeeds();
    cx.ctr("completion tcsh").refuses(1, "no completion for the shell \"tcsh\"");
    cx.ctr("completion").refuses(1, "'ctr completion' requires 1 argument");
});

// What is offered of a container is what it sees, and links end in it.
both!(paths_in_containers, |cx| {
    cx.busybox();
    cx.make_dir("vol");
    cx.make_file("vol/given", "");
    cx.make_file("only-here", "");
    let script = format!(
        "mkdir /in; cd /in; ln -s / abs; ln -s {} out; ln -s ../../../../in up; touch .hid a; exec sleep 1000",
        cx.dir.display()
    );
    let volume = cx.dir.join("vol").display().to_string();
    cx.ctr_args(["run", "-d", "--name", "box", "-v", &format!("{volume}:/vol"), "busybox", "sh", "-c", &script])
        .succeeds();
    cx.host("until $ctr exec box test -e /in/a; do sleep 0.1; done").succeeds();
    for is_over in [false, true] {
        cx.ctr("__complete cp box:/in/").prints("box:/in/a\nbox:/in/abs/\nbox:/in/out\nbox:/in/up/\n:4\n");
        cx.ctr("__complete cp box:/in/.").prints("box:/in/.hid\n:4\n");
        cx.ctr("__complete cp box:/in/out/").prints(":4\n");
        cx.ctr("__complete cp box:/in/up/a").prints("box:/in/up/a\nbox:/in/up/abs/\n:4\n");
        cx.ctr("__complete cp box:/in/abs/in/ab").prints("box:/in/abs/in/abs/\n:6\n");
        cx.ctr("__complete cp box:/vol/").prints("box:/vol/given\n:4\n");
        cx.ctr("__complete cp box:i").prints("box:in/\n:6\n");
        cx.ctr("__complete cp box:/in/a box:/").prints(":0\n");
        let all = cx.ctr("__complete cp box:").succeeds();
        assert!(all.starts_with("box:/bin/\n") && !all.contains("only-here"), "{all}");
        if !is_over {
            cx.ctr("kill box").succeeds();
            cx.until_status("box", "exited");
        }
    }
});

// TAB makes no store where there is none.
both!(asking_leaves_nothing, |cx| {
    cx.ctr("__complete stop ''").prints(":4\n");
    assert!(!cx.root().exists() && !cx.run_root().exists());
});

// What is in the store need not have been written by ctr.
both!(a_name_is_no_command_for_the_shell, |cx| {
    cx.busybox();
    let id = cx.ctr("create --name good busybox true").succeeds();
    let state = cx.root().join("containers").join(&id).join("state.json");
    let text = fs::read_to_string(&state).unwrap();
    for name in ["x$(touch gone)", "x;touch gone", "x`id`", "x y", "x\\u001b[2J", "x'", "x\\nz"] {
        fs::write(&state, text.replace("\"good\"", &format!("\"{name}\""))).unwrap();
        assert!(fs::read_to_string(&state).unwrap().contains(name));
        cx.ctr("__complete rm ''").prints(":4\n");
    }
    // Names are claimed by links, where one is missing.
    for link in fs::read_dir(cx.root().join("names")).unwrap().flatten() {
        if link.file_name().as_encoded_bytes().starts_with(b"x") {
            fs::remove_file(link.path()).unwrap();
        }
    }
    fs::write(&state, text).unwrap();
    cx.ctr("__complete rm ''").prints("good\tbusybox, Created\n:4\n");
});
