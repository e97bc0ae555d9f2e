//! `ctr secret …` and `run --secret`.

use std::os::unix::fs::PermissionsExt;

use crate::support::both;

both!(made_listed_removed, |cx| {
    cx.ctr("secret ls").prints("ID        NAME      DRIVER    CREATED   UPDATED\n");
    let file = cx.make_file("content", "hidden\n");
    let key = cx.ctr(&format!("secret create --label a=b key {}", file.display())).succeeds();
    assert_eq!(key.len(), 25, "{key}");
    let word = cx.ctr_reads("secret create word -", "x").succeeds();
    cx.ctr("secret ls").prints(&format!(
        "ID                          NAME      DRIVER    CREATED[..]UPDATED\n\
         {key}   key       file      [..] ago   [..] ago\n\
         {word}   word      file      [..] ago   [..] ago\n"
    ));
    cx.ctr("secret ls -q --filter name=wo").prints(&format!("{word}\n"));
    cx.ctr("secret ls --filter label=a --format '{{.Name}} {{.Labels}}'").prints("key a=b\n");
    cx.ctr("secret ls --noheading --filter name=key").prints(&format!("{key}   key [..]\n"));
    cx.ctr("secret ls --filter foo=x").refuses(1, "invalid filter 'foo'");
    cx.ctr("secret inspect -f '{{.Spec.Name}} {{.Spec.Driver.Name}} {{json .Spec.Labels}}' key word")
        .prints("key file {\"a\":\"b\"}\nword file {}\n");
    let all = cx.ctr("secret inspect key").succeeds();
    assert!(all.contains(&key) && !all.contains("hidden"), "{all}");
    cx.ctr("secret inspect --showsecret -f '{{.SecretData}}' key").prints("hidden\n\n");
    cx.ctr("secret inspect --pretty key").prints(&format!(
        "ID:              {key}\nName:            key\nLabels:\n - a=b\nDriver:          file\nCreated at:      [..]\nUpdated at:      [..]\n"
    ));
    for path in [cx.root().join("secrets").join(&key), cx.root().join("secrets").join(format!("{key}.json"))] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    cx.ctr_reads("secret create key -", "other").refuses(1, "secret key already exists");
    cx.ctr_reads("secret create --ignore key -", "other").prints(&format!("{key}\n"));
    let new = cx.ctr_reads("secret create --replace key -", "other").succeeds();
    assert_ne!(new, key);
    cx.ctr_reads("secret create empty -", "")
        .refuses(1, "secret data must be larger than 0 and less than 512000 bytes");
    cx.ctr_reads("secret create a/b -", "x").refuses(1, "invalid secret name (a/b)");
    cx.ctr_reads("secret create --driver pass x -", "x")
        .refuses(125, "the option \"--driver pass\" is not supported yet");
    cx.ctr("secret create x nosuch").refuses(1, "open nosuch: no such file or directory");
    cx.set("PASSWORD", "from here");
    cx.ctr("secret create --env password PASSWORD").succeeds();
    cx.ctr("secret create --env other NOSUCH").refuses(1, "cannot find secret data in environment variable \"NOSUCH\"");

    cx.ctr("secret exists key").prints("");
    cx.ctr(&format!("secret exists {}", &new[..8])).prints("");
    cx.ctr("secret exists nosuch").is(1, "", "");
    cx.ctr("secret inspect nosuch").is(1, "[]\n", "ctr: secret nosuch not found\n");
    cx.ctr("secret rm key nosuch").is(1, "key\n", "ctr: secret nosuch not found\n");
    cx.ctr("secret rm --ignore nosuch").prints("");
    cx.ctr("secret rm").refuses(1, "[..]requires at least 1 argument[..]");
    cx.ctr("secret rm --all").prints("password\nword\n");
    assert_eq!(std::fs::read_dir(cx.root().join("secrets")).unwrap().count(), 0);
});

both!(given_to_a_container, |cx| {
    cx.busybox();
    cx.ctr_reads("secret create key -", "hidden-content").succeeds();
    let given = "--secret key --secret key,target=deep/er,uid=1000,gid=50,mode=0400 --secret source=key,target=/etc/own/key \
                 --secret key,type=env,target=KEY";
    let show = "cat /run/secrets/key /run/secrets/deep/er /etc/own/key; echo; echo $KEY; \
                stat -c '%a %u %g' /run/secrets/key /run/secrets/deep/er; ls -A /run/secrets; \
                touch /run/secrets/x || echo x > /etc/own/key || chmod 777 /etc/own/key; grep -c \"/run/secrets tmpfs ro\" /proc/mounts";
    let output = "hidden-contenthidden-contenthidden-content\nhidden-content\n444 0 0\n400 1000 50\ndeep\nkey\n1\n";
    let ran = cx.ctr_args(format!("run --name box {given} busybox sh -c").split_whitespace().chain([show]));
    assert_eq!(ran.out(), output, "{ran}");
    assert_eq!(ran.err().matches("Read-only file system").count(), 3, "{ran}");

    // Nowhere but where it is kept.
    let shown = cx.ctr("inspect box").succeeds();
    assert!(!shown.contains("hidden"), "{shown}");
    let kept =
        cx.host("grep -rl hidden-content ../root 2>/dev/null | grep -v -e /secrets/ -e '-json.log' || true").out();
    assert_eq!(kept, "");
    // The container has it, whatever becomes of the secret.
    cx.ctr("secret rm key").prints("key\n");
    cx.ctr("rename box kept").prints("");
    let again = cx.ctr("start -a kept");
    assert_eq!(again.out(), output, "{again}");
    cx.ctr("rm kept").prints("kept\n");

    cx.ctr("run --secret key busybox true").refuses(125, "--secret: secret key not found");
    cx.ctr_reads("secret create key -", "a\0b").succeeds();
    cx.ctr("run --rm --secret key,type=env busybox true").fails_saying(125, "is no text");
    cx.ctr("run --rm --secret key --secret key busybox true")
        .refuses(125, "--secret: key is given twice for the same target");
    cx.ctr("run --secret key,mode=x busybox true").fails_saying(125, "mode \"x\" is invalid");
    cx.ctr("run --secret key,type=env,uid=1 busybox true").fails_saying(125, "cannot be set with secret type env");
});

both!(for_a_second_process_too, |cx| {
    cx.busybox();
    cx.ctr_reads("secret create key -", "hidden").succeeds();
    cx.ctr(
        "run -d --name box --user 1000 --env KEY=seen --secret key,type=env,target=KEY --secret key busybox sleep 1000",
    )
    .succeeds();
    cx.ctr("exec box sh -c 'echo $KEY; cat /run/secrets/key'").prints("hidden\nhidden");
    cx.ctr("inspect -f '{{json .Config.Env}}' box").prints("[\"KEY=seen\"[..]]\n");
});

both!(no_trace_of_it_is_left_in_the_container_s_files, |cx| {
    cx.busybox();
    cx.make_file("cwd/key", "never-to-be-seen\n");
    cx.ctr("secret create key key").succeeds();
    cx.ctr("run --name box --secret key busybox cat /run/secrets/key").prints("never-to-be-seen\n");
    cx.ctr("diff box").prints("");
    cx.host("$ctr export box | grep -ac never-to-be-seen || :").prints("0\n");
    cx.ctr("commit box made").succeeds();
    cx.ctr("run --rm made sh -c 'test -e /run || echo none'").prints("none\n");
});
