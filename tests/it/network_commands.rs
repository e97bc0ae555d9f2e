//! `ctr network …`, and what `run`, `create`, `ps`, `port`, `update` and `inspect` say of networks,
//! as far as nothing runs.

use serde_json::{Value, json};

use crate::support::{Sandbox, both};

fn inspected(cx: &Sandbox, line: &str) -> Value {
    let all: Value = serde_json::from_str(&cx.ctr(line).succeeds()).unwrap();
    all[0].clone()
}

both!(made_listed_and_removed, |cx| {
    let id = cx.ctr("network create --label a=1 front").succeeds();
    assert_eq!(id.len(), 64, "{id}");
    let list = cx.ctr("network ls").succeeds();
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]);
    let names: Vec<(&str, &str)> = rows[1..].iter().map(|row| (row[1], row[2])).collect();
    assert_eq!(names, [("bridge", "bridge"), ("front", "bridge"), ("host", "host"), ("none", "null")]);
    assert_eq!(rows[2][0], &id[..12]);
    cx.ctr("network ls -q --no-trunc --filter type=custom").prints(&format!("{id}\n"));
    cx.ctr("network ls --filter driver=null --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}}'")
        .prints("none null local false\n");
    cx.ctr("network ls --filter label=a --format '{{.Label \"a\"}}'").prints("1\n");
    cx.ctr("network ls --filter foo=x").refuses(1, "[..]invalid filter 'foo'");
    cx.ctr("network create front").refuses(1, "network with name front already exists");
    cx.ctr("network create host").refuses(1, "operation is not permitted on predefined host network");
    cx.ctr("network rm bridge").refuses(1, "bridge is a pre-defined network and cannot be removed");
    cx.ctr("network rm front nosuch").is(1, "front\n", "ctr: network nosuch not found\n");
    cx.ctr("network rm -f nosuch").is(0, "", "");
    cx.ctr("network inspect front").is(1, "[]\n", "ctr: network front not found\n");
});

both!(inspected_as_docker_shows_them, |cx| {
    let id = cx
        .ctr(
            "network create --subnet 10.77.0.0/16 --ip-range 10.77.5.0/24 --gateway 10.77.0.9 --aux-address a=10.77.0.3 \
             --subnet fd77::/64 --internal --attachable -o com.docker.network.driver.mtu=1400 --label x=y lan",
        )
        .succeeds();
    let shown = inspected(cx, "network inspect lan");
    assert_eq!(shown["Id"], id);
    assert_eq!(
        shown["IPAM"],
        json!({
            "Driver": "default",
            "Options": {},
            "Config": [
                { "Subnet": "10.77.0.0/16", "IPRange": "10.77.5.0/24", "Gateway": "10.77.0.9",
                  "AuxiliaryAddresses": { "a": "10.77.0.3" } },
                { "Subnet": "fd77::/64", "IPRange": "", "Gateway": "fd77::1" },
            ],
        })
    );
    for (name, value) in [
        ("Internal", json!(true)),
        ("Attachable", json!(true)),
        ("EnableIPv4", json!(true)),
        ("EnableIPv6", json!(true)),
        ("Scope", json!("local")),
        ("Containers", json!({})),
        ("Options", json!({ "com.docker.network.driver.mtu": "1400" })),
        ("Labels", json!({ "x": "y" })),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    cx.ctr("network inspect -f '{{.Name}} {{(index .IPAM.Config 0).Subnet}}' lan").prints("lan 10.77.0.0/16\n");
    cx.ctr("inspect --type network -f '{{.Driver}}' lan").prints("bridge\n");
    cx.ctr("inspect -f '{{.Driver}}' lan").prints("bridge\n");
    assert_eq!(inspected(cx, "network inspect none")["IPAM"]["Config"], Value::Null);
    cx.ctr("network rm lan").prints("lan\n");
});

both!(subnets_are_checked, |cx| {
    cx.ctr("network create --subnet 10.78.0.0/16 a").succeeds();
    for (options, message) in [
        ("--subnet 10.78.5.0/24", "invalid pool request: Pool overlaps with other one on this address space"),
        ("--subnet 10.79.0.1/16", "invalid network config: invalid subnet 10.79.0.1/16: it should be 10.79.0.0/16"),
        ("--subnet x", "invalid CIDR address: x"),
        ("--gateway 10.1.0.1", "every ip-range or gateway must have a corresponding subnet"),
        ("--subnet 10.79.0.0/16 --gateway 10.1.0.1", "no matching subnet for gateway 10.1.0.1"),
        ("--subnet 10.79.0.0/16 --gateway 10.79.0.0", {
            "invalid network config: invalid gateway 10.79.0.0: it is the first or the last address of 10.79.0.0/16"
        }),
        ("--subnet 10.79.0.0/16 --gateway 10.79.255.255", "invalid network config: invalid gateway [..]"),
        ("--subnet 10.79.0.1/32", {
            "invalid network config: invalid subnet 10.79.0.1/32: a gateway and a container do not fit into one address"
        }),
        ("--aux-address foo", "invalid aux-address \"foo\": NAME=ADDRESS, as in router=192.168.1.1"),
        ("--ipv4=false", "IPv4 or IPv6 must be enabled"),
        ("-o com.docker.network.foo=bar", "unsupported option \"com.docker.network.foo\" for a bridge network[..]"),
        ("-o mtu=x", "invalid value for mtu: \"x\""),
        ("--config-from nosuch", "configuration network \"nosuch\" not found"),
        ("--config-only --config-from a", { "a configuration network cannot depend on another configuration network" }),
        ("--config-only --internal", "configuration network can only contain network specific fields. [..]"),
        ("--config-from a --label x", {
            "user specified configurations are not supported if the network depends on a configuration network"
        }),
        ("--config-from a -o mtu=1400", {
            "network driver specific options are not supported if the network depends on a configuration network"
        }),
        ("-o com.docker.network.driver.mtu=x", "invalid value for com.docker.network.driver.mtu: \"x\""),
        ("-d foo", "network driver \"foo\" not found"),
    ] {
        cx.ctr(&format!("network create {options} b")).refuses(1, message);
    }
    for (options, name) in [("-d overlay", "--driver overlay"), ("--ipam-driver dhcp", "--ipam-driver dhcp")] {
        let message = format!("the option \"{name}\" is not supported yet");
        cx.ctr(&format!("network create {options} b")).refuses(125, &message);
    }
    for option in ["--ingress", "--scope swarm"] {
        let message = format!("{option}: This node is not a swarm manager");
        cx.ctr(&format!("network create {option} b")).refuses(125, &message);
    }
    // All of the pools that are left, and then none.
    let mut made = 0;
    let end = loop {
        let ran = cx.ctr(&format!("network create n{made}"));
        if ran.code != 0 {
            break ran;
        }
        made += 1;
        assert!(made < 40);
    };
    end.refuses(1, "all predefined address pools have been fully subnetted[..]");
    cx.ctr("network prune -f --filter label=x").prints("");
    let pruned = cx.ctr("network prune -f").succeeds();
    assert_eq!(pruned.lines().count(), made + 2, "{pruned}");
    cx.ctr("network ls -q --filter type=custom").prints("");
});

both!(made_from_a_configuration, |cx| {
    cx.busybox();
    let options = "--subnet 10.88.0.0/16 --ip-range 10.88.4.0/24 -o com.docker.network.driver.mtu=1400 --label a=b";
    cx.ctr(&format!("network create --config-only {options} plan")).succeeds();
    // Nothing is taken by it.
    cx.ctr(&format!("network create --config-only {options} spare")).succeeds();
    cx.ctr_args(["network", "inspect", "-f", "{{.ConfigOnly}} {{.Driver}} {{.ConfigFrom.Network}}.", "plan"])
        .prints("true null .\n");
    cx.ctr("network create --config-from plan lan").succeeds();
    let shown = inspected(cx, "network inspect lan");
    for (name, value) in [
        ("Driver", json!("bridge")),
        ("ConfigOnly", json!(false)),
        ("ConfigFrom", json!({ "Network": "plan" })),
        ("Options", json!({ "com.docker.network.driver.mtu": "1400" })),
        ("Labels", json!({ "a": "b" })),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    let range = json!([{ "Subnet": "10.88.0.0/16", "IPRange": "10.88.4.0/24", "Gateway": "10.88.0.1" }]);
    assert_eq!(shown["IPAM"]["Config"], range);
    cx.ctr("run --rm --network lan busybox cat /sys/class/net/eth0/mtu").prints("1400\n");
    cx.ctr("network create --config-from spare other")
        .refuses(1, "invalid pool request: Pool overlaps with other one on this address space");
    let none = "[..]cannot create endpoint on configuration-only network";
    cx.ctr("run --rm --network plan busybox true").refuses(125, none);
    cx.ctr("create --name box busybox true").succeeds();
    cx.ctr("network connect plan box").refuses(1, none);
    cx.ctr("network rm plan").refuses(1, "configuration network \"plan\" is in use");
    cx.ctr("network prune -f").prints("Deleted Networks:\nlan\n\n");
    cx.ctr("network rm plan spare").prints("plan\nspare\n");
});

both!(options_that_nobody_knows, |cx| {
    cx.busybox();
    let ran = cx.ctr("network create -o foo=bar -o mtu=1400 -o isolate=true net");
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(ran.err(), "WARNING: the option \"foo\" is ignored: a bridge network has none of that name\n");
    let kept = json!({ "foo": "bar", "mtu": "1400", "isolate": "true" });
    assert_eq!(inspected(cx, "network inspect net")["Options"], kept);
    cx.ctr("run --rm --network net busybox cat /sys/class/net/eth0/mtu").prints("1400\n");
});

both!(prune_spares_what_containers_are_to_be_on, |cx| {
    cx.busybox();
    cx.ctr("network create used").succeeds();
    cx.ctr("network create unused").succeeds();
    cx.ctr("create --name box --network used busybox true").succeeds();
    cx.ctr("network ls --filter dangling=true --format '{{.Name}}'").prints("unused\n");
    cx.ctr_reads("network prune", "n\n").succeeds();
    cx.ctr("network ls -q --filter type=custom --filter name=used").succeeds();
    cx.ctr("network prune --force").prints("Deleted Networks:\nunused\n\n");
    cx.ctr("network inspect -f '{{.Name}}' used").prints("used\n");
});

both!(a_stopped_containers_networks_change, |cx| {
    cx.busybox();
    let front = cx.ctr("network create front").succeeds();
    cx.ctr("network create back").succeeds();
    cx.ctr("create --name box --network front,alias=web,mac=02:00:00:00:00:07 -p 8080:80 --expose 90 busybox true")
        .succeeds();
    let shown = inspected(cx, "inspect box");
    assert_eq!(shown["HostConfig"]["NetworkMode"], "front");
    assert_eq!(shown["HostConfig"]["PortBindings"], json!({ "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] }));
    assert_eq!(shown["Config"]["ExposedPorts"], json!({ "80/tcp": {}, "90/tcp": {} }));
    let settings = &shown["NetworkSettings"];
    assert_eq!(settings["Ports"], json!({}));
    let endpoint = &settings["Networks"]["front"];
    assert_eq!(endpoint["Aliases"], json!(["web"]));
    assert_eq!(endpoint["NetworkID"], front);
    assert_eq!(endpoint["MacAddress"], "02:00:00:00:00:07");
    assert_eq!(endpoint["IPAddress"], "");

    cx.ctr("network connect --ip 172.16.99.9 --alias db back box").prints("");
    let format = "{{range $name, $e := .NetworkSettings.Networks}}{{$name}} {{end}}";
    cx.ctr_args(["inspect", "-f", format, "box"]).prints("back front \n");
    cx.ctr("inspect -f '{{.NetworkSettings.Networks.back.IPAMConfig.IPv4Address}}' box").prints("172.16.99.9\n");
    cx.ctr("ps -a --format '{{.Names}} {{.Networks}}' --filter network=back").prints("box front,back\n");
    cx.ctr(&format!("network disconnect {} box", &front[..12])).prints("");
    cx.ctr_args(["inspect", "-f", format, "box"]).prints("back \n");
    cx.ctr("network disconnect front box").refuses(1, "container [..] is not connected to network front");
    cx.ctr("network disconnect nosuch box").refuses(1, "network nosuch not found");
    cx.ctr("network connect nosuch box").refuses(1, "network nosuch not found");
    cx.ctr("network connect front nosuch").refuses(1, "No such container: nosuch");
    cx.ctr("network connect --ip 1.2.3.4 bridge box")
        .refuses(125, "user specified IP address is supported on user defined networks only");

    cx.ctr("ps -aq --filter publish=8080 --filter expose=90 --no-trunc").succeeds();
    cx.ctr("ps -a --format '{{.Names}}' --filter publish=81").prints("");
    cx.ctr("update --publish-add 8081:81/udp --publish-rm 80 box").prints("box\n");
    cx.ctr("inspect -f '{{json .HostConfig.PortBindings}}' box")
        .prints("{\"81/udp\":[{\"HostIp\":\"\",\"HostPort\":\"8081\"}]}\n");
    cx.ctr("ps -a --format '{{.Names}}' --filter publish=81/udp").prints("box\n");
    cx.ctr("update --publish-rm 80 box").refuses(1, "port 80/tcp is not published");
    cx.ctr("update box").refuses(1, "you must provide one or more flags when using this command");
    cx.ctr("update --restart always box").refuses(125, "the option \"--restart\" is not supported yet");
    cx.ctr("port box").prints("");
    cx.ctr("port box 80").refuses(1, "No public port '80' published for box");

    for (name, line) in
        [("hosted", "--network host"), ("alone", "--network none"), ("shared", "--network container:box")]
    {
        cx.ctr(&format!("create --name {name} {line} busybox true")).succeeds();
    }
    let id = cx.ctr("inspect -f '{{.Id}}' box").succeeds();
    cx.ctr("inspect -f '{{.HostConfig.NetworkMode}}' shared").prints(&format!("container:{id}\n"));
    let host = "container cannot be disconnected from host network or connected to host network";
    cx.ctr("network connect back hosted").refuses(1, host);
    cx.ctr("network connect host box").refuses(1, host);
    cx.ctr("network connect back alone").refuses(1, "container cannot be connected to multiple networks with [..]");
    cx.ctr("network connect back shared").refuses(1, "container sharing network namespace with another [..]");
    cx.ctr("network disconnect none alone").prints("");
    cx.ctr("network connect back alone").prints("");
    cx.ctr("ps -a --format '{{.Networks}}' --filter name=alone").prints("back\n");
});

both!(options_that_cannot_be, |cx| {
    cx.busybox();
    let refused = |line: &str, message: &str| {
        cx.ctr(&format!("create {line} busybox true")).refuses(125, message);
    };
    refused("-p a:80", "invalid hostPort: a");
    refused("--expose 0-99999", {
        "invalid range format for --expose: 0-99999, error: strconv.ParseUint: parsing \"99999\": value out of range"
    });
    refused("--env-file /etc", "invalid env file (/etc): read /etc: is a directory");
    refused("--security-opt seccomp=/x", "opening seccomp profile (/x) failed: open /x: no such file or directory");
    refused("--platform x", {
        "error parsing specified platform: \"x\": unknown operating system or architecture: invalid argument"
    });
    refused("--rm --restart always", "conflicting options: cannot specify both --restart and --rm");
    refused("--network=", "no name set for network");
    refused("--mac-address zz", "zz is not a valid mac address");
    refused("--gpus foo=x", "invalid argument \"foo=x\" for \"--gpus\" flag: unexpected key 'foo' in 'foo=x'");
    refused("--gpus=", "invalid argument \"\" for \"--gpus\" flag: EOF");
    refused("--rate in=10mbit,in=5mbit", "invalid argument [..]gives a direction twice");
    cx.ctr("run -d -a stdout busybox true")
        .refuses(1, "conflicting options: cannot specify both --attach and --detach");
    refused("-p localhost:80:80", "invalid IP address: localhost");
    refused("-p 80-82:80-81", "invalid ranges specified for container and host Ports: 80-81 and 80-82");
    refused("--network a --network a", "network \"a\" is specified multiple times");
    refused("--network host --network a", "conflicting options: cannot attach both user-defined and [..]");
    refused("--ip 10.0.0.5", "user specified IP address is supported on user defined networks only");
    refused("--network container:x -p 80", "conflicting options: port publishing and the container type network mode");
    refused("--network container:x --hostname y", "conflicting options: hostname and the network mode");
    refused("--network container:x --dns 1.1.1.1", "conflicting options: dns and the network mode");
    for mode in ["none", "host", "container:x", "ns:/proc/1/ns/net"] {
        refused(
            &format!("--host-loopback --network {mode}"),
            "conflicting options: host loopback and the network mode",
        );
    }
    // What Docker's client leaves to its daemon.
    let missing = |line: &str, message: &str| cx.ctr(&format!("create {line} busybox true")).refuses(1, message);
    missing("--network nosuch", "network nosuch not found");
    missing("--network container:nosuch", "No such container: nosuch");
    missing("--link nosuch", "--link: could not get container for nosuch: No such container: nosuch");
    refused("--network slirp4netns", "the option \"--network slirp4netns\" is not supported yet");
    let warned = cx.ctr("create --network host -p 8080:80 busybox true");
    assert_eq!(warned.err(), "WARNING: Published ports are discarded when using host network mode\n");
});
