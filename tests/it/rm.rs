//! `ctr rm`.

use crate::support::both;

both!(takes_all_of_it, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox sh -c 'mkdir -p /a/b; touch /a/b/c; chmod 0 /a; chown -R alice /home'").prints("");
    cx.ctr("rm box").prints("box\n");
    cx.ctr("ps -a -q").prints("");
    cx.leaves_nothing();
});

both!(not_while_it_runs, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr("rm box").refuses(1, r#"[..]cannot remove container "[..]"[..]container is running[..]"#);
    cx.ctr("ps --format '{{.Names}}'").prints("box\n");
    cx.ctr("rm -f box").prints("box\n");
    cx.leaves_nothing();
});

both!(several_and_what_is_wrong_with_some, |cx| {
    cx.busybox();
    cx.ctr("create --name aa busybox true").succeeds();
    cx.ctr("create --name bb busybox true").succeeds();
    cx.ctr("rm aa nosuch bb").is(1, "aa\nbb\n", "ctr: [..]No such container: nosuch\n");
    cx.ctr("rm").refuses(1, "[..]");
});

both!(an_id_prefix_that_two_share_is_refused, |cx| {
    cx.busybox();
    // Of seventeen ids two begin alike.
    let ids: Vec<_> = (0..17).map(|_| cx.ctr("create busybox true").succeeds()).collect();
    let first = |id: &String| id.as_bytes()[0];
    let shared = ids.iter().find(|id| ids.iter().filter(|other| first(other) == first(id)).count() > 1).unwrap();
    let prefix = &shared[..1];
    cx.ctr(&format!("rm {prefix}")).refuses(1, &format!("[..]multiple[..]{prefix}[..]"));
    assert_eq!(cx.ctr("ps -aq").succeeds().lines().count(), 17);
});

both!(two_at_once_for_one_container, |cx| {
    cx.busybox();
    for _ in 0..5 {
        let id = cx.ctr("run -d busybox sleep 1000").succeeds();
        let both: Vec<_> = (0..4).map(|_| cx.spawn(&format!("rm -f {id}"))).collect();
        let ran: Vec<_> = both.into_iter().map(|running| running.wait()).collect();
        assert!(ran.iter().any(|ran| ran.code == 0), "nobody removed it");
        for ran in ran {
            assert!(ran.code == 0 || ran.err().contains("No such container"), "{ran}");
        }
        cx.leaves_nothing();
    }
});
