//! Other firewalls of this machine. A packet passes if *every* table lets it pass, so ours alone
//! cannot open what another closes, and an address that is translated never meets the rules that
//! guard this machine's own ports.
//!
//! - Docker, ufw and others through iptables-nft have `ip filter` and `ip6 filter`, whose `FORWARD`
//!   drops by default. [`let_through`] puts two rules for a bridge where the administrator's own
//!   are meant to be: `DOCKER-USER`, `ufw-user-forward`, else first in `FORWARD`. What our
//!   own table forbids stays forbidden. `ufw reload` forgets them; the next start puts them back.
//! - ufw and firewalld guard ports by rules for what arrives *for this machine*. With address
//!   translation published ports would go past them, as Docker's do; [`Foreign::guards_input`] says
//!   that a listener must serve them instead.
//! - firewalld refuses to forward for interfaces that it knows nothing of; only the
//!   administrator can say which zone they are in: [`Foreign::advice`].
//!
//! What is loaded by the older iptables (not -nft) cannot be seen from here.

use anyhow::Result;

use super::explained;
use crate::network::netlink::{Refused, Socket};
use crate::network::nft::batch::ifname;
use crate::network::nft::list::{self, Chain};
use crate::network::nft::{Batch, Family, Field, Hook, Rule, Table};

/// Chains of `filter` where rules for a bridge are put, best first.
const PLACES: [&str; 3] = ["DOCKER-USER", "ufw-user-forward", "FORWARD"];

/// What other firewalls there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    pub ufw: bool,
    pub firewalld: bool,
    /// Where `FORWARD` of iptables drops by default, and the chain for rules of ours.
    closed: Vec<(Family, &'static str)>,
    /// Other chains that drop what is forwarded by default, as `nft` names them:
    /// `inet filter forward`.
    pub dropping: Vec<String>,
}

/// What else is loaded; `None`: nothing that concerns us. One question to the kernel.
///
/// # Errors
/// No nf_tables, or what the kernel refuses.
pub fn active(socket: &mut Socket) -> Result<Option<Foreign>> {
    let chains = list::chains(socket).map_err(|refused| explained("list the rules of this machine", refused))?;
    let found = found(&chains);
    Ok((found != Foreign::default()).then_some(found))
}

fn found(chains: &[Chain]) -> Foreign {
    let filter = |family: Family| chains.iter().filter(move |c| c.family == family as u8 && c.table == "filter");
    let mut found = Foreign {
        ufw: filter(Family::Ip).any(|c| c.name == "ufw-user-input"),
        firewalld: chains.iter().any(|c| c.family == Family::Inet as u8 && c.table == "firewalld"),
        ..Foreign::default()
    };
    for family in [Family::Ip, Family::Ip6] {
        if filter(family).any(|c| c.name == "FORWARD" && c.drops) {
            let place = PLACES.into_iter().find(|place| filter(family).any(|c| c.name == *place));
            found.closed.extend(place.map(|place| (family, place)));
        }
    }
    let families = [(Family::Inet, "inet"), (Family::Ip, "ip"), (Family::Ip6, "ip6")];
    for chain in chains.iter().filter(|c| c.drops && c.hook == Some(Hook::Forward as u32)) {
        let Some((family, name)) = families.iter().find(|(f, _)| *f as u8 == chain.family) else { continue };
        let iptables = *family != Family::Inet && chain.table == "filter" && chain.name == "FORWARD";
        if !(iptables || chain.table == "firewalld" || chain.table == "ctr") {
            found.dropping.push(format!("{name} {} {}", chain.table, chain.name));
        }
    }
    found
}

impl Foreign {
    /// Whether published ports must be served by a listener, so that this firewall's rules for
    /// incoming connections decide about them.
    #[must_use]
    pub fn guards_input(&self) -> bool {
        self.ufw || self.firewalld
    }

    /// What the administrator has to do so that containers behind `bridge` reach the outside.
    #[must_use]
    pub fn advice(&self, bridge: &str) -> Option<String> {
        if self.firewalld {
            return Some(format!(
                "firewalld forwards nothing for {bridge}: run \"firewall-cmd --permanent --zone=trusted \
                 --add-interface={bridge} && firewall-cmd --reload\""
            ));
        }
        let chain = self.dropping.first()?;
        Some(format!(
            "the chain \"{chain}\" drops what is forwarded: run \"nft insert rule {chain} iifname {bridge} accept; nft \
             insert rule {chain} oifname {bridge} accept\", and add this to its configuration"
        ))
    }
}

fn label(bridge: &str) -> String {
    format!("ctr: {bridge}")
}

fn filter(family: Family) -> Table<'static> {
    Table::new(family, "filter")
}

/// Lets what comes from the bridge and goes to it pass where iptables' `FORWARD` drops by default.
/// Again: no error, and nothing is there twice.
///
/// # Errors
/// What the kernel refuses.
pub fn let_through(socket: &mut Socket, foreign: &Foreign, bridge: &str) -> Result<()> {
    let label = label(bridge);
    let mut batch = Batch::new();
    for (family, place) in &foreign.closed {
        let there = rules(socket, *family)?;
        if there.iter().any(|rule| rule.chain == *place && rule.comment == label) {
            continue;
        }
        for field in [Field::OUT, Field::IN] {
            let rule = Rule::new().is(field, &ifname(bridge)).count().accept().comment(label.clone());
            batch.rule_first(filter(*family), place, &rule);
        }
    }
    batch.send(socket).map_err(|refused| failed("let the network's traffic pass", refused))
}

/// Takes away what [`let_through`] put in, wherever it is.
///
/// # Errors
/// What the kernel refuses.
pub fn withdraw(socket: &mut Socket, bridge: &str) -> Result<()> {
    let label = label(bridge);
    let mut batch = Batch::new();
    for family in [Family::Ip, Family::Ip6] {
        for rule in rules(socket, family)?.iter().filter(|rule| rule.comment == label) {
            batch.delete_rule(filter(family), &rule.chain, rule.handle);
        }
    }
    batch.send(socket).map_err(|refused| failed("take back the network's rules", refused))
}

fn rules(socket: &mut Socket, family: Family) -> Result<Vec<list::Listed>> {
    list::rules(socket, filter(family)).map_err(|refused| failed("list the rules of iptables", refused))
}

fn failed(what: &str, refused: Refused) -> anyhow::Error {
    explained(what, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: Family, table: &str, name: &str, hook: Option<Hook>, drops: bool) -> Chain {
        Chain { family: family as u8, table: table.into(), name: name.into(), hook: hook.map(|h| h as u32), drops }
    }

    #[test]
    fn firewalls_are_told_apart() {
        assert_eq!(found(&[chain(Family::Inet, "ctr", "forward", Some(Hook::Forward), true)]), Foreign::default());
        let docker = found(&[
            chain(Family::Ip, "filter", "FORWARD", Some(Hook::Forward), true),
            chain(Family::Ip, "filter", "DOCKER-USER", None, false),
            chain(Family::Ip6, "filter", "FORWARD", Some(Hook::Forward), false),
        ]);
        assert_eq!(docker.closed, [(Family::Ip, "DOCKER-USER")]);
        assert!(!docker.guards_input() && docker.advice("ctr0").is_none());
        let ufw = found(&[
            chain(Family::Ip, "filter", "FORWARD", Some(Hook::Forward), true),
            chain(Family::Ip, "filter", "ufw-user-input", None, false),
            chain(Family::Ip, "filter", "ufw-user-forward", None, false),
        ]);
        assert!(ufw.guards_input());
        assert_eq!(ufw.closed, [(Family::Ip, "ufw-user-forward")]);
        let firewalld = found(&[chain(Family::Inet, "firewalld", "filter_FORWARD", Some(Hook::Forward), false)]);
        assert!(firewalld.guards_input() && firewalld.advice("ctr0").unwrap().contains("--add-interface=ctr0"));
        let own = found(&[chain(Family::Inet, "filter", "forward", Some(Hook::Forward), true)]);
        assert!(own.advice("ctr0").unwrap().contains("\"inet filter forward\""), "{own:?}");
    }
}
