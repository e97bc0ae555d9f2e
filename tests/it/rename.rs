//! `ctr rename`.

use crate::support::both;

both!(moves_the_name, |cx| {
    cx.busybox();
    let id = cx.ctr("run -d --name old busybox sleep 1000").succeeds();
    cx.ctr("rename old new").prints("");
    cx.ctr("ps --format '{{.Names}}'").prints("new\n");
    cx.ctr("inspect -f '{{.Id}} {{.Name}}' new").prints(&format!("{id} /new\n"));
    cx.ctr("logs old").refuses(1, "[..]No such container: old");
    cx.ctr("create --name old busybox true").succeeds();
    cx.ctr("rename old new").refuses(1, r#"[..]name "/new" is already in use[..]"#);
    cx.ctr("rename old new/er").refuses(1, "[..]nvalid[..]name[..]");
    cx.ctr(&format!("rename {} by-id", &id[..12])).prints("");
    cx.ctr("stop -t 0 by-id").prints("by-id\n");
    cx.ctr("rename by-id after").prints("");
    cx.ctr("start after").prints("after\n");
});
