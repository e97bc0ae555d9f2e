//! Many containers, many changes.

use super::{address, monitor, netns, pings, waits};
use crate::support::dns::{A, Answer, dig};
use crate::support::{netns::interfaces, on_machine, until};

const CONTAINERS: usize = 100;

// Started at once; then each asks for every other.
on_machine!(a_hundred_that_know_each_other, |cx, _world| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    let names: Vec<_> = (0..CONTAINERS).map(|n| format!("c{n}")).collect();
    let line = |name: &String| cx.spawn(&format!("run -d --init --name {name} --network net busybox sleep 1000"));
    let all: Vec<_> = names.iter().map(line).collect();
    for running in all {
        running.wait().succeeds();
    }
    let inspected = cx.ctr_args(["inspect"].into_iter().chain(names.iter().map(String::as_str))).succeeds();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let of = |n: usize| {
        let settings = &inspected[n]["NetworkSettings"]["Networks"]["net"];
        (settings["IPAddress"].as_str().unwrap().to_owned(), inspected[n]["State"]["Pid"].to_string())
    };
    let them: Vec<(String, String)> = (0..CONTAINERS).map(of).collect();
    let addresses: std::collections::BTreeSet<_> = them.iter().map(|(address, _)| address).collect();
    assert_eq!(addresses.len(), CONTAINERS);
    for (_, pid) in &them {
        let inside = crate::support::Netns::of(pid);
        for (name, (address, _)) in names.iter().zip(&them) {
            assert_eq!(dig(&inside, name, A), Answer::of(&[address]), "{name}");
        }
    }
    // The farthest two, packets and all.
    assert!(pings(cx, "c0", "c99") && pings(cx, "c99", "c0"));
    cx.ctr_args(["rm", "-f"].into_iter().chain(names.iter().map(String::as_str))).succeeds();
    cx.leaves_nothing();
});

on_machine!(two_hundred_changes, |cx, _world| {
    cx.busybox();
    cx.ctr("network create --ipv6 net").succeeds();
    waits(cx, "other", "--network net");
    waits(cx, "box", "");
    let look = || (cx.leftovers().len(), interfaces(), cx.ctr("exec box cat /etc/hosts").succeeds());
    cx.ctr("network connect net box").prints("");
    cx.ctr("network disconnect net box").prints("");
    let before = look();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", monitor(cx, "box"))).unwrap().count();
    let open = descriptors();
    for _ in 0..200 {
        cx.ctr("network connect --alias again net box").prints("");
        cx.ctr("network disconnect net box").prints("");
    }
    let after = look();
    assert_eq!((&after.1, &after.2), (&before.1, &before.2));
    assert_eq!(after.0, before.0, "{}", cx.leftovers().join("\n"));
    // Those that the kernel is slow to close are closed when there is nothing else to do.
    until("no descriptor is left open", || descriptors() <= open);
    cx.ctr("network connect net box").prints("");
    assert_eq!(dig(&netns(cx, "other"), "box", A), Answer::of(&[&address(cx, "box", "net")]));
});
