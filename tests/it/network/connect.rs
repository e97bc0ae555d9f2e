//! Networks that a container joins and leaves while it runs, and before.

use super::{address, connects, endpoint, fetch, netns, pings, serves, settings, waits};
use crate::support::dns::{A, Answer, dig};
use crate::support::world::{FAR, HERE};
use crate::support::{both, on_machine};

/// The container's interfaces, but loopback.
#[track_caller]
fn interfaces(cx: &crate::support::Sandbox, container: &str) -> String {
    let out = cx.ctr(&format!("exec {container} ls /sys/class/net")).succeeds();
    out.lines().filter(|name| *name != "lo").collect::<Vec<_>>().join(" ")
}

on_machine!(while_it_runs, |cx, world| {
    cx.busybox();
    let _server = world.outside.greets((FAR, 7000));
    cx.ctr("network create --subnet 10.92.0.0/24 net").succeeds();
    serves(cx, "there", "--network net");
    waits(cx, "box", "-h me");
    let line = "network connect --alias second --ip 10.92.0.77 net box";
    cx.ctr(line).prints("");
    assert_eq!(interfaces(cx, "box"), "eth0 eth1");
    assert_eq!(address(cx, "box", "net"), "10.92.0.77");
    assert!(cx.ctr("exec box ip -o -4 addr show dev eth1").succeeds().contains("inet 10.92.0.77/24"));
    let hosts = cx.ctr("exec box cat /etc/hosts").succeeds();
    assert!(hosts.lines().any(|line| line == "10.92.0.77\tme"), "{hosts}");
    cx.ctr("exec box wget -q -O - http://there/").prints("works\n");
    assert_eq!(dig(&netns(cx, "there"), "second", A), Answer::of(&["10.92.0.77"]));
    assert_eq!(dig(&netns(cx, "there"), "box.net", A), Answer::of(&["10.92.0.77"]));
    cx.ctr_args(["ps", "--filter", "name=box", "--format", "{{.Networks}}"]).prints("bridge,net\n");
    connects(cx, "box", FAR, 7000).prints(&format!("hello {HERE}\n"));
    cx.ctr(line).fails_saying(1, "already exists in network net");
    // The one that it came with goes; the other leads outside now.
    cx.ctr("network disconnect bridge box").prints("");
    assert_eq!(interfaces(cx, "box"), "eth1");
    connects(cx, "box", FAR, 7000).prints(&format!("hello {HERE}\n"));
    let hosts = cx.ctr("exec box cat /etc/hosts").succeeds();
    assert_eq!(hosts.lines().filter(|line| line.ends_with("\tme")).count(), 1, "{hosts}");
    cx.ctr("network disconnect net box").prints("");
    assert_eq!(interfaces(cx, "box"), "");
    assert_ne!(dig(&netns(cx, "there"), "second", A).records, ["10.92.0.77"]);
    assert_eq!(settings(cx, "box")["Networks"], serde_json::json!({}));
    cx.ctr("network disconnect net box").fails_saying(1, "is not connected to");
    // And back.
    cx.ctr("network connect bridge box").prints("");
    assert_eq!(interfaces(cx, "box"), "eth0");
    connects(cx, "box", FAR, 7000).prints(&format!("hello {HERE}\n"));
});

both!(before_it_starts, |cx| {
    cx.busybox();
    cx.ctr("network create --subnet 10.93.0.0/24 net").succeeds();
    waits(cx, "other", "--network net");
    cx.ctr("create --name box --init busybox sleep 1000").succeeds();
    cx.ctr("network connect --ip 10.93.0.50 --alias later net box").prints("");
    cx.ctr("network disconnect bridge box").prints("");
    cx.ctr("start box").prints("box\n");
    assert_eq!(address(cx, "box", "net"), "10.93.0.50");
    assert!(pings(cx, "other", "later"));
    // What changed while it ran is so after a restart.
    cx.ctr("network create second").succeeds();
    cx.ctr("network connect second box").prints("");
    cx.ctr("stop -t 0 box").prints("box\n");
    cx.ctr("start box").prints("box\n");
    assert_eq!(interfaces(cx, "box"), "eth0 eth1");
    assert_eq!(address(cx, "box", "net"), "10.93.0.50");
});

on_machine!(from_none_to_networks, |cx, world| {
    cx.busybox();
    let _server = world.outside.greets((FAR, 7000));
    cx.ctr("network create --subnet 10.95.0.0/24 net").succeeds();
    waits(cx, "other", "--network net");
    cx.ctr("create --name later --network none --init busybox sleep 1000").succeeds();
    waits(cx, "ended", "--network none");
    cx.ctr("stop -t 0 ended").prints("ended\n");
    waits(cx, "now", "--network none -h me");
    assert_eq!(interfaces(cx, "now"), "");
    for name in ["later", "ended", "now"] {
        cx.ctr(&format!("network connect net {name}")).fails_saying(1, "private (none) mode");
        cx.ctr(&format!("network disconnect none {name}")).prints("");
        cx.ctr(&format!("network disconnect none {name}")).fails_saying(1, "is not connected to network none");
    }
    // What the doctor says is to be done then.
    let ran = cx.ctr("network doctor now");
    assert!(ran.out().contains("ctr network connect bridge now"), "{ran}");
    for name in ["later", "ended", "now"] {
        cx.ctr(&format!("network connect net {name}")).prints("");
    }
    cx.ctr("start later ended").prints("later\nended\n");
    for name in ["later", "ended", "now"] {
        assert_eq!(interfaces(cx, name), "eth0");
        assert!(pings(cx, "other", name) && pings(cx, name, "other"), "{name}");
        connects(cx, name, FAR, 7000).prints(&format!("hello {HERE}\n"));
    }
    let hosts = cx.ctr("exec now cat /etc/hosts").succeeds();
    assert!(hosts.lines().any(|line| line == format!("{}\tme", address(cx, "now", "net"))), "{hosts}");
    cx.ctr("network connect bridge now").prints("");
    cx.ctr("restart -t 0 now").prints("now\n");
    assert_eq!(interfaces(cx, "now"), "eth0 eth1");
});

both!(what_cannot_be_joined, |cx| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    cx.ctr("run -d --init --name host --network host busybox sleep 1000").succeeds();
    cx.ctr("network connect net host").fails_saying(1, "host");
    waits(cx, "box", "");
    cx.ctr("network connect nowhere box").refuses(1, "[..]network nowhere not found");
    cx.ctr("network connect net nobody").refuses(1, "[..]No such container: nobody");
    cx.ctr("network connect host box").fails_saying(1, "host");
    cx.ctr("network connect --ip 10.94.0.9 net box").fails_saying(1, "contain the IP address 10.94.0.9");
    assert_eq!(interfaces(cx, "box"), "eth0");
    cx.ctr("network connect net box").prints("");
});

on_machine!(published_ports_stay, |cx, world| {
    serves(cx, "box", "-p 8080:80");
    cx.ctr("network create net").succeeds();
    cx.ctr("network connect net box").prints("");
    let from = || fetch(&world.outside, &format!("{HERE}:8080"), "/");
    assert_eq!(from().unwrap(), "works\n");
    cx.ctr("network disconnect bridge box").prints("");
    assert_eq!(from().unwrap(), "works\n");
    assert_ne!(endpoint(cx, "box", "net", "IPAddress"), "");
    cx.ctr("network disconnect net box").prints("");
    assert!(from().is_err() || from().unwrap().is_empty());
    cx.ctr("network connect bridge box").prints("");
    assert_eq!(from().unwrap(), "works\n");
});

both!(shared_by_another_container, |cx| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    waits(cx, "box", "");
    cx.ctr("run -d --init --name guest --network container:box busybox sleep 1000").succeeds();
    cx.ctr("network connect net box").prints("");
    assert_eq!(interfaces(cx, "guest"), "eth0 eth1");
    // It lives on with the one that it is the guest of gone.
    cx.ctr("rm -f box").prints("box\n");
    cx.ctr("exec guest true").prints("");
    cx.ctr("rm -f guest").prints("guest\n");
});
