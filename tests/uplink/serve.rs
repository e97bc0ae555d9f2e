//! For measuring by hand, with namespaces made by hand: `serve ROOT NETNS LOOPBACK ADDRESSES
//! [HOST:PORT=TARGET:PORT…]` registers and publishes until it is killed.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::ExitCode;

use ctr::network::space::Space;
use ctr::network::uplink::{self, Listener, Registration, Target};
use ctr::network::{Protocol, Published};
use ctr::store::{Id, Store};

pub fn run(args: &[String]) -> ExitCode {
    let [root, namespace, loopback, addresses, ports @ ..] = args else {
        eprintln!("serve ROOT NETNS|- 0|1 ADDRESS,… [HOST:PORT=TARGET:PORT …]");
        return ExitCode::FAILURE;
    };
    let store = Store::open(Some(root.as_ref()), Some(root.as_ref())).unwrap();
    let space = match namespace.as_str() {
        "-" => Space::Here,
        path => Space::Apart(File::open(path).unwrap().into()),
    };
    let mut uplink = uplink::connect(&store, &space).unwrap();
    let addresses: Vec<IpAddr> = addresses.split(',').map(|a| a.parse().unwrap()).collect();
    let host_loopback = loopback == "1";
    uplink.register(&Registration { container: Id::random().unwrap(), addresses, host_loopback }).unwrap();
    let mut sockets = Vec::new();
    for port in ports {
        let (host, target) = port.split_once('=').unwrap();
        let (host, target): (SocketAddr, SocketAddr) = (host.parse().unwrap(), target.parse().unwrap());
        let published = Published {
            host: host.ip(),
            host_port: host.port(),
            container_port: target.port(),
            protocol: Protocol::Tcp,
        };
        sockets.push((TcpListener::bind(host).unwrap(), Target { published, target, keep_source: true }));
    }
    let listeners: Vec<_> = sockets.iter().map(|(l, target)| Listener { socket: l.as_fd(), target: *target }).collect();
    uplink.publish(&listeners).unwrap();
    eprintln!("ready");
    loop {
        std::thread::park();
    }
}
