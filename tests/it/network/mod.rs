//! Networks, as containers and those around them see them. Each test has a network namespace of its
//! own for a machine; those of `on_machine!` have an outside too, with a second machine in it.

mod connect;
mod crash;
mod hostile;
mod hosts;
mod many;
mod names;
mod outside;
mod publish;
mod reach;

use serde_json::Value;

use crate::support::{Image, Netns, Sandbox};

/// A container that waits, on these networks.
#[track_caller]
fn waits(cx: &Sandbox, name: &str, flags: &str) {
    cx.ctr(&format!("run -d --init --name {name} {flags} busybox sleep 1000")).succeeds();
}

/// A web server on port 80 of a container; it serves when this returns.
#[track_caller]
fn serves(cx: &Sandbox, name: &str, flags: &str) {
    if cx.ctr("images -q web").out().is_empty() {
        cx.load(&Image::web());
    }
    cx.ctr(&format!("run -d --init --name {name} {flags} web")).succeeds();
    until_serves(cx, name);
}

#[track_caller]
fn until_serves(cx: &Sandbox, name: &str) {
    let begin = std::time::Instant::now();
    loop {
        let ran = cx.ctr(&format!("exec {name} wget -q -O - http://127.0.0.1/"));
        if ran.code == 0 {
            return;
        }
        assert!(begin.elapsed().as_secs() < 60, "{name} serves nothing\n{ran}\n{}", cx.ctr("ps -a"));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The network namespace of a container.
#[track_caller]
fn netns(cx: &Sandbox, container: &str) -> Netns {
    Netns::of(&cx.ctr(&format!("inspect -f '{{{{.State.Pid}}}}' {container}")).succeeds())
}

/// Docker's `NetworkSettings`.
#[track_caller]
fn settings(cx: &Sandbox, container: &str) -> Value {
    let all: Value = serde_json::from_str(&cx.ctr(&format!("inspect {container}")).succeeds()).unwrap();
    all[0]["NetworkSettings"].clone()
}

/// What `inspect` says of a container on a network: `IPAddress`, `MacAddress` and so on.
#[track_caller]
fn endpoint(cx: &Sandbox, container: &str, network: &str, field: &str) -> String {
    let settings = settings(cx, container);
    let value = &settings["Networks"][network][field];
    value.as_str().unwrap_or_else(|| panic!("no {field} of {container} on {network}: {settings:#}")).to_owned()
}

/// A container's IPv4 address on a network.
#[track_caller]
fn address(cx: &Sandbox, container: &str, network: &str) -> String {
    endpoint(cx, container, network, "IPAddress")
}

/// What a program in the container prints when it connects to a TCP port.
fn connects(cx: &Sandbox, container: &str, host: &str, port: u16) -> crate::support::Ran {
    cx.ctr(&format!("exec {container} nc -w 20 {host} {port}"))
}

/// Whether one packet of a container's comes back, however busy the machine is.
fn pings(cx: &Sandbox, container: &str, host: &str) -> bool {
    cx.ctr(&format!("exec {container} ping -c 1 -W 20 {host}")).code == 0
}

/// Whether none comes back in a while.
fn is_cut_off(cx: &Sandbox, container: &str, host: &str) -> bool {
    cx.ctr(&format!("exec {container} ping -c 1 -W 2 {host}")).code != 0
}

/// The port of the host that a container's port has.
#[track_caller]
fn host_port(cx: &Sandbox, container: &str, port: &str) -> u16 {
    let out = cx.ctr(&format!("port {container} {port}")).succeeds();
    let first = out.lines().next().unwrap();
    first.rsplit(':').next().unwrap().parse().unwrap()
}

/// The process of a container's monitor.
#[track_caller]
fn monitor(cx: &Sandbox, container: &str) -> i32 {
    let pid = cx.ctr(&format!("inspect -f '{{{{.State.Pid}}}}' {container}")).succeeds();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The page that a web server gives at `path`.
fn fetch(from: &Netns, address: &str, path: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let address: std::net::SocketAddr = address.parse().unwrap();
    from.inside(|| {
        let mut stream = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(10))?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    })
}
