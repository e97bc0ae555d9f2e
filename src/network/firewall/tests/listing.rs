use super::lab::Lab;
use crate::network::firewall::load_all;

/// The chains in `lines`, each from `chain name {` to `}`, but the line with a field that nft cannot name.
fn chains<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut open = false;
    for line in lines.map(str::trim).filter(|line| !line.starts_with("icmpv6 type nd-neighbor-advert")) {
        open |= line.starts_with("chain ");
        if line.starts_with("chain ") {
            found.push(Vec::new());
        }
        if let (true, Some(chain)) = (open, found.last_mut()) {
            chain.push(line.to_owned());
        }
        open &= line != "}";
    }
    found
}

/// `mod.rs` shows the rules: they are those that are loaded.
#[test]
fn nft_reads_what_the_documentation_shows() {
    let Some(lab) = Lab::new() else { return };
    let page = include_str!("../mod.rs");
    let mut shown = chains(page.lines().filter_map(|line| line.strip_prefix("//!")));
    lab.load(&[]);
    let loaded = lab.host.rules();
    let apart = shown.pop().unwrap();
    assert_eq!(chains(loaded.iter().map(String::as_str)), shown);
    for wanted in [
        "elements = { \"br-i\" }",
        "type ifname . ether_addr . ipv6_addr",
        "\"pn\" . 02:00:00:00:00:0b . fd30:1::3 }",
        "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    ] {
        assert!(loaded.iter().any(|line| line == wanted), "{wanted}: {loaded:#?}");
    }
    load_all(&lab.host.space(), || Ok(lab.all(&[]))).unwrap();
    let loaded = lab.host.rules();
    assert!(chains(loaded.iter().map(String::as_str)).contains(&apart), "{loaded:#?}");
}
