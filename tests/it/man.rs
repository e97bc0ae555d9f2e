//! The manual pages, read by the programs that show them. That they say what the commands do is a unit
//! test's business (`cli::man`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::skipped;

fn folder() -> PathBuf {
    let top = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    top.join("man")
}

/// All files, those that only lead to another apart.
fn pages() -> (Vec<PathBuf>, Vec<(PathBuf, String)>) {
    let (mut pages, mut links) = (Vec::new(), Vec::new());
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        match text.strip_prefix(".so man1/") {
            Some(target) => links.push((path, target.trim_end().to_owned())),
            None => pages.push(path),
        }
    }
    (pages, links)
}

#[test]
fn links_lead_to_pages() {
    let (pages, links) = pages();
    let is_page = |name: &str| pages.iter().any(|page| page.file_name().unwrap() == name);
    assert!(is_page("ctr.1") && is_page("ctr-run.1") && is_page("ctr-network-create.1"));
    assert!(links.iter().any(|(path, to)| path.ends_with("ctr-container-ls.1") && to == "ctr-ps.1"));
    let broken: Vec<_> = links.iter().filter(|(_, target)| !is_page(target)).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

/// What a program says of each page, which should be nothing.
fn said(program: &str, args: &[&str], pages: &[PathBuf]) -> Option<String> {
    let mut all = String::new();
    for page in pages {
        // A fixed width, and no colours: what is warned of depends on both.
        let ran = Command::new(program).args(args).arg(page).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8").output();
        let Ok(ran) = ran else {
            skipped(&format!("{program} is not installed"));
            return None;
        };
        all.push_str(&String::from_utf8_lossy(&ran.stderr));
        if program == "mandoc" {
            all.push_str(&String::from_utf8_lossy(&ran.stdout));
        }
        assert!(ran.status.success() || !all.is_empty(), "{program} {}: {}", page.display(), ran.status);
    }
    Some(all)
}

#[test]
fn mandoc_finds_no_fault() {
    if let Some(faults) = said("mandoc", &["-Tlint", "-W", "warning"], &pages().0) {
        assert_eq!(faults, "");
    }
}

#[test]
fn groff_finds_no_fault() {
    if let Some(faults) = said("groff", &["-man", "-Tutf8", "-K", "utf8", "-ww"], &pages().0) {
        assert_eq!(faults, "");
    }
}

#[test]
fn a_page_shows_what_it_holds() {
    let page = folder().join("ctr-stop.1");
    let Ok(ran) = Command::new("mandoc").args(["-Tutf8", "-O", "width=78"]).arg(&page).output() else {
        return skipped("mandoc is not installed");
    };
    let text = String::from_utf8(ran.stdout).unwrap();
    let mut plain = String::new();
    // Bold and underlined letters are struck over.
    for c in text.chars() {
        match c {
            '\u{8}' => _ = plain.pop(),
            c => plain.push(c),
        }
    }
    for part in [
        "NAME\n",
        "ctr stop [OPTIONS] CONTAINER [CONTAINER...]\n",
        "-t, --timeout, --time seconds\n",
        "ctr stop -t 0 web     no time to clean up\n",
        "EXIT STATUS\n",
        "ctr-container(1)",
    ] {
        assert!(plain.contains(part), "{part:?} is not in\n{plain}");
    }
    assert!(Path::new(&page).exists());
}
