//! Killed at random moments: monitors, uplinks, commands. The next command heals it.

use std::time::Duration;

use super::{address, connects, fetch, monitor, netns, pings, serves, until_serves, waits};
use crate::crash::{Dice, kill_at_random};
use crate::support::dns::{A, Answer, dig};
use crate::support::world::{FAR, HERE, NEIGHBOUR};
use crate::support::{Sandbox, both, on_machine, slay, until};

on_machine!(the_monitor, |cx, world| {
    cx.busybox();
    cx.ctr("network create --subnet 10.90.0.0/24 net").succeeds();
    serves(cx, "box", "--network net --ip 10.90.0.9 -p 8080:80");
    waits(cx, "other", "--network net");
    slay(monitor(cx, "box"));
    // Its port, its address and its name are free, with no command in between.
    let asks = netns(cx, "other");
    serves(cx, "heir", "--network net --ip 10.90.0.9 -p 8080:80");
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8080"), "/").unwrap(), "works\n");
    assert_eq!(dig(&asks, "heir", A), Answer::of(&["10.90.0.9"]));
    cx.ctr("ps -a --filter name=box --format '{{.Status}}'").prints("Exited (137) [..] ago\n");
    assert_ne!(dig(&asks, "box", A).records, ["10.90.0.9"]);
    // What was the dead one's and is the heir's now stays: the client is seen still.
    let who = fetch(&world.outside, &format!("{HERE}:8080"), "/cgi-bin/who").unwrap();
    assert!(who.contains(NEIGHBOUR), "{who}");
    cx.ctr("start box").fails_saying(1, "already");
    cx.ctr("rm -f heir").succeeds();
    cx.ctr("start box").prints("box\n");
    until_serves(cx, "box");
    until("it is reached", || fetch(&world.outside, &format!("{HERE}:8080"), "/").is_ok_and(|page| page == "works\n"));
    assert!(pings(cx, "other", "box"));
});

on_machine!(a_port_that_another_has_since, |cx, world| {
    cx.busybox();
    waits(cx, "box", "-p 8080:80");
    slay(monitor(cx, "box"));
    serves(cx, "heir", "-p 8080:80");
    // To put the dead one in order is not to take the port away from the one who has it now.
    cx.ctr("ps -a --filter name=box --format '{{.Status}}'").prints("Exited (137) [..] ago\n");
    let who = fetch(&world.outside, &format!("{HERE}:8080"), "/cgi-bin/who").unwrap();
    assert!(who.contains(NEIGHBOUR), "{who}");
    if cx.is_root() {
        let map = crate::support::netns::run("nft", "list map inet ctr anywhere4");
        assert!(map.contains("tcp . 8080"), "{map}");
    }
});

on_machine!(all_monitors_at_once, |cx, world| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    serves(cx, "one", "--network net -p 8080:80");
    waits(cx, "two", "--network net");
    waits(cx, "three", "");
    for monitor in ["one", "two", "three"].map(|name| monitor(cx, name)) {
        slay(monitor);
    }
    cx.ctr("start one two three").prints("one\ntwo\nthree\n");
    until_serves(cx, "one");
    assert!(pings(cx, "two", "one"));
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8080"), "/").unwrap(), "works\n");
    assert!(pings(cx, "three", NEIGHBOUR));
});

/// The uplinks of a sandbox.
fn uplinks(cx: &Sandbox) -> Vec<i32> {
    let left = cx.leftovers();
    let named = left.iter().filter(|line| line.contains("ctr-uplink"));
    named.filter_map(|line| line.strip_prefix("process ")?.split(':').next()?.parse().ok()).collect()
}

on_machine!(the_uplink, |cx, world| {
    let _server = world.outside.greets((FAR, 7000));
    serves(cx, "box", "-p 8080:80");
    if cx.is_root() {
        assert_eq!(uplinks(cx), [0; 0], "root needs none");
        return;
    }
    for _ in 0..3 {
        let before = uplinks(cx);
        assert_eq!(before.len(), 1, "{before:?}");
        slay(before[0]);
        until("published ports work again", || {
            fetch(&world.outside, &format!("{HERE}:8080"), "/").is_ok_and(|text| text == "works\n")
        });
        until("the outside is reached again", || connects(cx, "box", FAR, 7000).code == 0);
        assert_ne!(uplinks(cx), before);
    }
    // The last container's end is its end.
    cx.ctr("rm -f box").succeeds();
    until("the uplink ends", || uplinks(cx).is_empty());
});

both!(runs, |cx| {
    cx.busybox();
    cx.ctr("network create --subnet 10.89.0.0/24 net").succeeds();
    kill_at_random(
        cx,
        20,
        "run -d --init --name it --network net --ip 10.89.0.9 -p 8080:80 busybox sleep 1000",
        || until("the name is free", || cx.ctr("rm -f it").code == 0 && !cx.root().join("names/it").exists()),
        // The address and the port are nobody's once it is gone.
        |_| {
            // One that had not got its name yet is given it by the next command that sees it.
            until("it is gone", || {
                cx.ctr("rm -f it");
                cx.ctr("ps -aq").succeeds().is_empty()
            });
            cx.ctr("run --rm --network net --ip 10.89.0.9 -p 8080:80 busybox true").prints("");
        },
    );
    cx.leaves_nothing();
});

both!(changes_of_a_running_one, |cx| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    waits(cx, "other", "--network net");
    waits(cx, "box", "");
    kill_at_random(
        cx,
        15,
        "network connect net box",
        || {
            cx.ctr("network disconnect -f net box");
        },
        |_| {
            // It is connected or it is not, and whichever it says is true.
            let said = cx.ctr_args(["ps", "--filter", "name=box", "--format", "{{.Networks}}"]).succeeds();
            until("what it says is true", || {
                pings(cx, "box", "other")
                    == cx
                        .ctr_args(["ps", "--filter", "name=box", "--format", "{{.Networks}}"])
                        .succeeds()
                        .contains("net")
            });
            assert!(["bridge", "bridge,net"].contains(&&*said), "{said}");
        },
    );
    cx.ctr("network disconnect -f net box");
    cx.ctr("network connect net box").prints("");
    assert!(pings(cx, "box", "other"));
});

both!(networks, |cx| {
    cx.busybox();
    let list = "network ls --filter type=custom --format '{{.Name}}'";
    kill_at_random(
        cx,
        20,
        "network create --ipv6 net",
        || {
            cx.ctr("network rm net");
        },
        |_| {
            // All or nothing.
            let listed = cx.ctr(list).succeeds();
            assert!(["", "net"].contains(&&*listed), "{listed}");
            assert_eq!(cx.ctr("network inspect net").code == 0, listed == "net");
            if listed == "net" {
                cx.ctr("run --rm --network net busybox true").prints("");
            }
        },
    );
    kill_at_random(
        cx,
        15,
        "network rm net",
        || {
            cx.ctr("network create net");
            cx.ctr("run --rm --network net busybox true").prints("");
        },
        |_| {
            let listed = cx.ctr(list).succeeds();
            assert!(["", "net"].contains(&&*listed), "{listed}");
        },
    );
});

on_machine!(monitors_among_many, |cx, _world| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    waits(cx, "stays", "--network net");
    let mut dice = Dice::new();
    for round in 0..4 {
        let names: Vec<_> = (0..5).map(|n| format!("r{round}n{n}")).collect();
        let all: Vec<_> = names
            .iter()
            .map(|name| cx.spawn(&format!("run -d --init --name {name} --network net busybox sleep 1000")))
            .collect();
        // While some of them still start.
        std::thread::sleep(Duration::from_millis(dice.below(150)));
        for pid in monitors(cx) {
            if dice.below(2) == 0 && pid != monitor(cx, "stays") {
                slay(pid);
            }
        }
        for running in all {
            running.wait();
        }
        let inside = netns(cx, "stays");
        for name in &names {
            let runs = || cx.ctr_args(["inspect", "-f", "{{.State.Status}}", name]).out() == "running\n";
            // A process that has not executed yet has its monitor's words: where that was killed, the
            // monitor is about to record it.
            until("what runs is reached, by its name", || {
                let known = runs() && dig(&inside, name, A) == Answer::of(&[&address(cx, name, "net")]);
                (known && pings(cx, "stays", name)) || !runs()
            });
        }
        cx.ctr_args(["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)));
    }
    assert_eq!(cx.ctr("ps -aq").succeeds().lines().count(), 1);
});

fn monitors(cx: &Sandbox) -> Vec<i32> {
    let left = cx.leftovers();
    let named = left.iter().filter(|line| line.contains("ctr-monitor"));
    named.filter_map(|line| line.strip_prefix("process ")?.split(':').next()?.parse().ok()).collect()
}
