use super::*;

fn registries(text: &str) -> Registries {
    Registries::of_file(Path::new("/etc/r.conf"), text).expect(text)
}

fn name(text: &str) -> Reference {
    text.parse::<Reference>().expect(text).or_latest()
}

/// `place` or `place!` (insecure) for each endpoint.
fn places(registries: &Registries, text: &str) -> Vec<String> {
    let endpoints = registries.endpoints(&name(text)).expect(text);
    endpoints.iter().map(|e| format!("{}{}", e.reference, if e.insecure { "!" } else { "" })).collect()
}

const D: &str = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn without_a_file_a_name_means_what_it_says() {
    let none = Registries::default();
    assert_eq!(places(&none, "busybox"), ["docker.io/library/busybox:latest"]);
    assert_eq!(places(&none, "localhost:5000/a"), ["localhost:5000/a:latest!"]);
    assert_eq!(none.candidates("a/b:1").expect("a name"), [name("docker.io/a/b:1")]);
}

#[test]
fn mirrors_come_first_and_names_are_rewritten() {
    let text = r#"
        [[registry]]
        prefix = "example.com/foo"
        location = "internal.example.net/bar"
        [[registry.mirror]]
        location = "mirror-0.local/for-foo"
        [[registry.mirror]]
        location = "mirror-1.local/foo"
        insecure = true
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "mirror-2.local"
        pull-from-mirror = "tag-only"
        [[registry]]
        prefix = "*.example.org"
        insecure = true
        [[registry]]
        prefix = "*.deep.example.org"
        location = "deep.example.net/x"
        [[registry]]
        location = "docker.io"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "cache.example.net:5000/hub"
    "#;
    let it = registries(text);
    assert_eq!(
        places(&it, "example.com/foo/image:1"),
        ["mirror-0.local/for-foo/image:1", "mirror-2.local/image:1", "internal.example.net/bar/image:1"]
    );
    assert_eq!(
        places(&it, &format!("example.com/foo/image{D}")),
        [
            format!("mirror-0.local/for-foo/image{D}"),
            format!("mirror-1.local/foo/image{D}!"),
            format!("internal.example.net/bar/image{D}")
        ]
    );
    assert_eq!(places(&it, "example.com/food:1"), ["example.com/food:1"]);
    assert_eq!(places(&it, "a.b.example.org:80/x:1"), ["a.b.example.org:80/x:1!"]);
    assert_eq!(places(&it, "a.deep.example.org/x:1"), ["deep.example.net/x/x:1"]);
    assert_eq!(places(&it, "busybox:1"), ["docker.io/library/busybox:1"]);
    assert_eq!(places(&it, &format!("busybox{D}"))[0], format!("cache.example.net:5000/hub/library/busybox{D}"));
    // A push goes to where the name says.
    assert_eq!(it.itself(&name("example.com/foo/image:1")).expect("one").reference, name("example.com/foo/image:1"));
}

#[test]
fn the_longest_prefix_counts() {
    let it = registries(
        "[[registry]]\nlocation = \"reg.lan:5000\"\ninsecure = true\n\
         [[registry]]\nprefix = \"reg.lan:5000/safe\"\nlocation = \"x.lan\"\ninsecure = false\n\
         [[registry]]\nlocation = \"reg.lan:5000/safe/off\"\nblocked = true\n",
    );
    assert_eq!(places(&it, "reg.lan:5000/a:1"), ["reg.lan:5000/a:1!"]);
    assert_eq!(places(&it, "reg.lan:5000/safe/a:1"), ["x.lan/a:1"]);
    assert_eq!(places(&it, "reg.lan/a:1"), ["reg.lan/a:1"]);
    let error = it.endpoints(&name("reg.lan:5000/safe/off:1")).expect_err("blocked").to_string();
    assert_eq!(error, "registry \"reg.lan:5000/safe/off\" is blocked");
    assert!(it.is_insecure("reg.lan:5000") && !it.is_insecure("reg.lan"));
}

#[test]
fn short_names_have_aliases_and_places_to_search() {
    let it = registries(
        "unqualified-search-registries = [\"a.io\", \"docker.io\"]\n[aliases]\n\"fedora\" = \"r.org/fedora\"\n",
    );
    let all = |text: &str| it.candidates(text).expect(text).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(all("fedora:40"), ["r.org/fedora:40"]);
    assert_eq!(all(&format!("fedora{D}")), [format!("r.org/fedora{D}")]);
    assert_eq!(all("x:1"), ["a.io/x:1", "docker.io/library/x:1"]);
    assert_eq!(all("b.io/x:1"), ["b.io/x:1"]);
    let mut settings = it.settings;
    settings.add(Path::new("/d"), "[aliases]\n\"fedora\" = \"\"\n").expect("read");
    let it = Registries { settings, daemon: Daemon::default() };
    assert_eq!(it.candidates("fedora:40").expect("a name").len(), 2);
}

#[test]
fn a_later_file_replaces_tables_of_the_same_prefix() {
    let mut settings = Settings::default();
    settings.add(Path::new("/1"), "[[registry]]\nlocation = \"a.io\"\nblocked = true\n").expect("read");
    settings.add(Path::new("/2"), "[[registry]]\nprefix = \"a.io\"\nlocation = \"b.io\"\n").expect("read");
    let it = Registries { settings, daemon: Daemon::default() };
    assert_eq!(places(&it, "a.io/x:1"), ["b.io/x:1"]);
}

#[test]
fn mistakes_are_named_with_their_file_and_line() {
    let wrong = |text: &str| {
        let error = Settings::default().add(Path::new("/etc/r.conf"), text).expect_err(text);
        error.to_string()
    };
    for (text, line, why) in [
        ("a = 1\nb = \n", 2, ""),
        ("\n\n[[registry]]\nlocation = 7\n", 4, "string"),
        ("[[registry]]\nblocked = true\n", 1, "neither prefix nor location"),
        ("\n[[registry]]\nprefix = \"a.*.com\"\n", 2, "wildcard"),
        ("\n[[registry]]\nprefix = \"*.a.com/x\"\n", 2, "wildcard"),
        ("[[registry]]\nlocation = \"https://a.io\"\n", 1, "without https://"),
        ("[[registry]]\nlocation = \"a.io\"\n[[registry.mirror]]\ninsecure = true\n", 3, "location"),
        ("[[registry]]\nlocation=\"a\"\n[[registry.mirror]]\nlocation=\"b\"\npull-from-mirror=\"x\"\n", 5, "x"),
        ("\n[registries.search]\nregistries = []\n", 2, "version 1"),
        ("[aliases]\n\"a:1\" = \"b.io/a\"\n", 2, "without tag"),
    ] {
        let error = wrong(text);
        assert!(
            error.starts_with(&format!("\"/etc/r.conf\", line {line}: ")) && error.contains(why),
            "{text}: {error}"
        );
    }
}

#[test]
fn dockers_own_file_counts_too() {
    let daemon: Daemon = serde_json::from_str(
        r#"{"insecure-registries": ["10.0.0.0/8", "reg.lan"], "registry-mirrors": ["http://m.lan:5000/"]}"#,
    )
    .expect("json");
    let it = Registries { settings: Settings::default(), daemon };
    assert_eq!(places(&it, "10.1.2.3/x:1"), ["10.1.2.3/x:1!"]);
    assert_eq!(places(&it, "reg.lan/x:1"), ["reg.lan/x:1!"]);
    assert_eq!(places(&it, "x:1"), ["m.lan:5000/library/x:1!", "docker.io/library/x:1"]);
}
