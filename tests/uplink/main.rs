//! The uplink against the kernel.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::needless_pass_by_value, clippy::exit)]
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::ExitCode;

use ctr::network::space::Space;
use ctr::network::uplink::{self, Listener, Registration, Target};
use ctr::network::{Protocol, Published};
use ctr::store::{Id, Store};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args[0].to_str() == Some(uplink::NAME) {
        return uplink::run(args);
    }
    serve(args.into_iter().skip(1).map(|a| a.into_string().unwrap()).collect())
}

/// ROOT NETNS LOOPBACK ADDRESS [HOST:PORT=TARGET…]
fn serve(args: Vec<String>) -> ExitCode {
    let store = Store::open(Some(args[0].as_ref()), Some(args[0].as_ref())).unwrap();
    let space = match args[1].as_str() {
        "-" => Space::Here,
        path => Space::Apart(File::open(path).unwrap().into()),
    };
    let uplink = uplink::connect(&store, &space).unwrap();
    let addresses: Vec<IpAddr> = args[3].split(',').map(|a| a.parse().unwrap()).collect();
    uplink
        .register(&Registration { container: Id::random().unwrap(), addresses, host_loopback: args[2] == "1" })
        .unwrap();
    let mut sockets = Vec::new();
    for publish in &args[4..] {
        let (host, target) = publish.split_once('=').unwrap();
        let host: SocketAddr = host.parse().unwrap();
        let target: SocketAddr = target.parse().unwrap();
        let listener = TcpListener::bind(host).unwrap();
        let published = Published {
            host: host.ip(),
            host_port: host.port(),
            container_port: target.port(),
            protocol: Protocol::Tcp,
        };
        sockets.push((listener, Target { published, target, keep_source: true }));
    }
    let listeners: Vec<_> = sockets.iter().map(|(l, target)| Listener { socket: l.as_fd(), target: *target }).collect();
    uplink.publish(&listeners).unwrap();
    eprintln!("ready");
    loop {
        std::thread::park();
    }
}
