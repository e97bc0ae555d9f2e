//! `ctr search`: by a registry's search, and by its catalog.

use crate::support::{Entry, Image, Registry, Reply, Server, both};

const RESULTS: &str = r#"{"num_results":3,"query":"box","results":[
    {"name":"me/box","description":"one","star_count":2,"is_official":false,"is_automated":true},
    {"name":"box","description":"A box in which everything else is, and which is in nothing","star_count":70,"is_official":true,"is_automated":false},
    {"name":"you/box","description":null,"star_count":0}]}"#;

both!(by_the_search_of_a_registry, |cx| {
    let server = Server::start();
    server.put("/v1/search", Reply::ok("application/json", RESULTS));
    let host = &server.host;
    let out = cx.ctr(&format!("search {host}/box")).succeeds();
    let rows: Vec<Vec<&str>> =
        out.lines().map(|line| line.split("   ").filter(|cell| !cell.is_empty()).map(str::trim).collect()).collect();
    assert_eq!(rows[0], ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]);
    assert_eq!(rows[1][0], format!("{host}/box"));
    assert_eq!(rows[1][1..], ["A box in which everything else is, and which\u{2026}", "70", "[OK]"]);
    assert_eq!(rows[2][0], format!("{host}/me/box"));
    cx.ctr(&format!(
        "search {host}/box --filter stars=1 --filter is-official=false --format '{{{{.Name}}}} {{{{.StarCount}}}}'"
    ))
    .prints(&format!("{host}/me/box 2\n"));
    cx.ctr(&format!("search {host}/box --limit 1 --no-trunc --format '{{{{.Description}}}}'")).prints("one\n");
    let json = cx.ctr(&format!("search {host}/box --format json")).succeeds();
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["StarCount"], "70");
    assert_eq!(first["IsOfficial"], "[OK]");
    cx.ctr(&format!("search {host}/box --filter foo=1")).refuses(1, "invalid filter 'foo'");
    cx.ctr(&format!("search {host}/box --limit 101")).refuses(1, "limit 101 is outside the range of [1, 100]");
});

both!(by_the_catalog, |cx| {
    let registry = Registry::plain();
    let who = if cx.is_root() { "root" } else { "user" };
    for name in ["one", "two"] {
        registry.push(&Image::small(&format!("search/{who}/{name}:1"), [Entry::file("x", 0o644, name)]));
    }
    let host = &registry.host;
    let found = cx.ctr(&format!("search {host}/search/{who} --format '{{{{.Name}}}}'"));
    found.prints(&format!("{host}/search/{who}/one\n{host}/search/{who}/two\n"));
    cx.ctr(&format!("search {host}/search/{who} --limit 1 --format '{{{{.Name}}}}'"))
        .prints(&format!("{host}/search/{who}/one\n"));
    cx.ctr(&format!("search {host}/no-such-thing")).prints("NAME[..]DESCRIPTION[..]STARS[..]OFFICIAL\n");
    let registry = Registry::secure();
    registry.trust(cx);
    cx.ctr(&format!("search {}/x", registry.host)).fails_saying(1, "ctr login");
    registry.log_in(cx);
    cx.ctr(&format!("search {}/no-such-thing", registry.host)).succeeds();
});
