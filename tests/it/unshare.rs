//! `ctr unshare`: what the containers' files look like to their root.

use crate::support::both;

both!(runs_a_command_there, |cx| {
    if cx.is_root() {
        return cx.ctr("unshare id -u").refuses(125, "please use unshare with an ordinary user[..]");
    }
    cx.ctr("unshare id -u").prints("0\n");
    cx.ctr("unshare sh -c 'exit 7'").is(7, "", "");
    cx.ctr("unshare nosuch").refuses(127, "run \"nosuch\": no such file or directory");
    // A folder that may not be looked into hides nothing else.
    let shut = cx.make_dir("shut");
    std::fs::set_permissions(&shut, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    std::os::unix::fs::chown(&shut, Some(0), Some(0)).unwrap();
    cx.set("PATH", format!("{}:/usr/bin:/bin", shut.display()));
    cx.ctr("unshare nosuch").refuses(127, "run \"nosuch\": no such file or directory");
    cx.ctr("unshare id -u").prints("0\n");
    cx.make_file("plain", "");
    cx.ctr(&format!("unshare {}", cx.dir.join("plain").display())).refuses(126, "run [..]: permission denied");
    let file = cx.make_file("mine", "");
    if !cx.is_root() {
        cx.ctr(&format!("unshare stat -c %u {}", file.display())).prints("0\n");
        let map = cx.ctr("unshare cat /proc/self/uid_map").succeeds();
        assert_eq!(map.lines().count(), 2, "{map}");
        cx.ctr(&format!("unshare chown 1:1 {}", file.display())).prints("");
        cx.ctr(&format!("unshare stat -c %u:%g {}", file.display())).prints("1:1\n");
    }
});
