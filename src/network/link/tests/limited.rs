//! Bandwidth limits, measured.

use std::io::{Read, Write};
use std::time::Instant;

use super::super::rate::{self, Egress};
use super::*;
use crate::network::Rate;
use crate::network::link;

/// Bits a second that pass from one to the other, whose the address is.
fn speed(from: &World, to: &World, address: IpAddr, bytes: u32) -> f64 {
    let whole = f64::from(bytes) * 8.0;
    let bytes = bytes as usize;
    let listener = to.inside(|| TcpListener::bind(SocketAddr::new(address, 0))).expect("listen");
    let at = listener.local_addr().expect("its address");
    let mut stream = from.inside(move || TcpStream::connect(at)).expect("connect");
    let (mut other, _) = listener.accept().expect("accept");
    let began = Instant::now();
    let sender = thread::spawn(move || stream.write_all(&vec![0; bytes]));
    let mut buffer = vec![0; 1 << 16];
    let mut received = 0;
    while received < bytes {
        received += other.read(&mut buffer).expect("read");
    }
    sender.join().expect("sender").expect("sent");
    whole / began.elapsed().as_secs_f64()
}

#[test]
fn a_container_is_limited_both_ways() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[net("172.30.0.1/16")]);
        let mut a = bed.connect("vetha", false, &[net("172.30.0.2/16")], &[]);
        let wanted = Rate { ingress: Some(40_000_000), egress: Some(20_000_000) };
        // A second time it changes nothing; a third one is slower.
        for wanted in [Rate { egress: Some(90_000_000), ..wanted }, wanted, wanted] {
            let egress = rate::limit(&mut bed.space.socket, &mut a.socket, "vetha", "eth0", &wanted).unwrap();
            assert_eq!(egress, Egress::Outside);
        }
        let into = speed(&bed.space, &a, ip("172.30.0.2"), 2 << 20);
        assert!((4e6..48e6).contains(&into), "{into}");
        let out = speed(&a, &bed.space, ip("172.30.0.1"), 1 << 20);
        assert!((2e6..24e6).contains(&out), "{out}");

        rate::limit(&mut bed.space.socket, &mut a.socket, "vetha", "eth0", &Rate::default()).unwrap();
        assert_eq!(link::find(&mut bed.space.socket, "ifba").unwrap(), None);
        let qdiscs = bed.space.tell("tc qdisc show dev vetha");
        assert!(!qdiscs.contains("tbf") && !qdiscs.contains("ingress"), "{qdiscs}");
        assert!(reaches(&a, &bed.space, ip("172.30.0.1")));
        assert!(!rate::remove(&mut bed.space.socket, "vetha").unwrap());
    });
}

#[test]
fn what_a_limit_made_is_removed_after_the_container() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[]);
        let mut a = bed.connect("vetha", false, &[], &[]);
        let wanted = Rate { ingress: None, egress: Some(1_000_000) };
        rate::limit(&mut bed.space.socket, &mut a.socket, "vetha", "eth0", &wanted).unwrap();
        link::remove(&mut bed.space.socket, "vetha").unwrap();
        assert!(rate::remove(&mut bed.space.socket, "vetha").unwrap());
        let left: Vec<_> = link::list(&mut bed.space.socket).unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(left, ["lo", "ctr0"]);
    });
}
