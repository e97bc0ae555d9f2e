//! Names for containers that were given none: an adjective and somebody who made computing.

use std::io;

const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "apt", "arch", "balmy", "blithe", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "cheery", "clever", "crisp", "deft", "eager", "earnest", "fair", "fleet", "fond", "frank", "gentle", "glad",
    "golden", "hardy", "hearty", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow",
    "merry", "mighty", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick",
    "quiet", "rapid", "sage", "serene", "sharp", "sincere", "smart", "snug", "spry", "steady", "sunny", "swift",
    "tidy", "vivid", "witty",
];

const SURNAMES: [&str; 64] = [
    "adleman",
    "aiken",
    "allen",
    "antonelli",
    "backus",
    "bartik",
    "blum",
    "boole",
    "brooks",
    "cerf",
    "church",
    "cocke",
    "codd",
    "cook",
    "corbato",
    "dahl",
    "diffie",
    "dijkstra",
    "easley",
    "engelbart",
    "estrin",
    "feinler",
    "floyd",
    "goldberg",
    "granville",
    "gray",
    "hamilton",
    "hamming",
    "hellman",
    "hoare",
    "holberton",
    "hopper",
    "iverson",
    "kahan",
    "kahn",
    "karp",
    "kernighan",
    "kilburn",
    "knuth",
    "lamarr",
    "lamport",
    "licklider",
    "liskov",
    "lovelace",
    "mccarthy",
    "mcilroy",
    "milner",
    "minsky",
    "naur",
    "newell",
    "nygaard",
    "perlis",
    "perlman",
    "postel",
    "ritchie",
    "rivest",
    "shamir",
    "shannon",
    "spence",
    "sutherland",
    "tarjan",
    "thompson",
    "turing",
    "wirth",
];

/// A name, with a digit behind it once `attempts` were taken already.
///
/// # Errors
/// As `getrandom(2)`.
pub fn random(attempts: u32) -> io::Result<String> {
    let mut bytes = [0u8; 3];
    crate::sys::random(&mut bytes)?;
    let [adjective, surname, digit] = bytes;
    let name = format!("{}_{}", ADJECTIVES[usize::from(adjective) % 64], SURNAMES[usize::from(surname) % 64]);
    // Once most of the 4096 are taken, more of the same dice would find the free ones too slowly.
    Ok(if attempts == 0 { name } else { format!("{name}{}", u32::from(digit) * attempts) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        for attempts in 0..100 {
            let name = random(attempts).unwrap();
            assert!(crate::store::names::is_valid(&name) && name.contains('_'), "{name}");
        }
        let mut all: Vec<_> = ADJECTIVES.iter().chain(&SURNAMES).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 128);
    }
}
