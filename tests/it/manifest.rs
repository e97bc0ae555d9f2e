//! `ctr manifest`: names for several platforms, made here, pushed, and pulled again.

use serde_json::Value;

use crate::support::{Entry, Image, Registry, Sandbox, both, digest};

fn image(name: &str) -> Image {
    Image::small(name, [Entry::file("name", 0o644, name)])
}

fn inspected(cx: &Sandbox, words: &str) -> Value {
    serde_json::from_str(&cx.ctr(&format!("manifest inspect {words}")).succeeds()).unwrap()
}

both!(made_changed_and_removed, |cx| {
    let (one, two) = (image("one:1"), image("two:1"));
    cx.load(&one);
    cx.load(&two);
    cx.ctr("manifest create list:1 one:1").prints("Created manifest list docker.io/library/list:1\n");
    cx.ctr("manifest create list:1 two:1")
        .refuses(1, "refusing to amend an existing manifest list with no --amend flag");
    cx.ctr("manifest create --amend list:1 two:1").prints("Created manifest list docker.io/library/list:1\n");
    cx.ctr("manifest create one:1 two:1").refuses(1, "\"one:1\" is an image");
    cx.ctr("manifest annotate --os linux --arch arm --variant v7 --os-features a,b --os-version 3 list:1 two:1")
        .prints("");
    cx.ctr("manifest annotate --arch arm list:1 three:1").fails_saying(1, "three");
    let list = inspected(cx, "list:1");
    assert_eq!(list["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(list["manifests"][0]["digest"], digest(&one.manifest()));
    assert_eq!(list["manifests"][0]["platform"]["architecture"], crate::support::architecture());
    let platform = serde_json::json!({"architecture": "arm", "os": "linux", "variant": "v7", "os.version": "3", "os.features": ["a", "b"]});
    assert_eq!(list["manifests"][1]["platform"], platform);
    assert_eq!(list["manifests"][1]["digest"], digest(&two.manifest()));
    assert_eq!(inspected(cx, "list:1 two:1"), serde_json::from_slice::<Value>(&two.manifest()).unwrap());
    let verbose = inspected(cx, "-v list:1");
    assert_eq!(verbose[1]["OCIManifest"], serde_json::from_slice::<Value>(&two.manifest()).unwrap());
    // The name runs what is for this machine.
    cx.ctr("run --rm list:1 cat /name").prints("one:1");
    cx.ctr("manifest exists list:1").prints("");
    cx.ctr("manifest exists one:1").is(1, "", "");
    let out = cx.ctr(&format!("manifest remove list:1 {}", digest(&two.manifest()))).succeeds();
    assert!(out.starts_with("sha256:"), "{out}");
    cx.ctr("manifest remove list:1 two:1")
        .refuses(1, "manifest for image two:1 does not exist in docker.io/library/list:1");
    cx.ctr("manifest add --arch s390x --annotation a=b list:1 two:1").succeeds();
    let list = inspected(cx, "list:1");
    assert_eq!(list["manifests"][1]["annotations"]["a"], "b");
    // It keeps what it leads to, and goes with what only it had.
    let manifest = cx.root().join("image/blobs/sha256").join(&digest(&two.manifest())[7..]);
    cx.ctr("rmi two:1").succeeds();
    assert!(manifest.exists());
    cx.ctr("manifest rm list:1").prints("");
    assert!(!manifest.exists());
    cx.ctr("manifest rm list:1").refuses(1, "No such manifest: docker.io/library/list:1");
    cx.ctr("run --rm one:1 cat /name").prints("one:1");
    cx.ctr("system check").prints("");
});

both!(pushed_and_pulled_for_all_platforms, |cx| {
    let registry = Registry::plain();
    let (one, two) = (image("lists/one:1"), image("lists/two:1"));
    cx.load(&one);
    // Of this one only the manifest is fetched: its blobs come from the other repository of the registry.
    let remote = registry.push(&two);
    let who = if cx.is_root() { "root" } else { "user" };
    let name = format!("{}/lists/{who}:1", registry.host);
    cx.ctr(&format!("manifest create {name} lists/one:1 {remote}")).succeeds();
    cx.ctr(&format!("manifest annotate --arch s390x {name} {remote}")).prints("");
    let whole = cx.ctr(&format!("manifest inspect {name}")).succeeds();
    let pushed = cx.ctr(&format!("manifest push -q -p {name}")).succeeds();
    assert!(pushed.starts_with("sha256:"), "{pushed}");
    cx.ctr(&format!("manifest exists {name}")).is(1, "", "");
    let raw = format!("skopeo inspect --tls-verify=false --raw docker://{name}");
    assert_eq!(digest(&cx.host(&raw).stdout), pushed);
    assert_eq!(cx.ctr(&format!("manifest inspect {name}")).succeeds(), whole);
    let other =
        format!("skopeo inspect --tls-verify=false --override-arch s390x --format '{{{{.Digest}}}}' docker://{name}");
    assert_eq!(cx.host(&other).code, 0);

    cx.ctr("rmi lists/one:1").succeeds();
    cx.ctr(&format!("pull -q --all-platforms {name}")).prints(&format!("{name}\n"));
    let ids = cx.ctr(&format!("images -q --no-trunc {name}")).succeeds();
    assert_eq!(ids.lines().count(), 2, "{ids}");
    cx.ctr(&format!("run --rm {name} cat /name")).prints("lists/one:1");
    assert_eq!(cx.ctr(&format!("images --format '{{{{.Digest}}}}' {name}")).succeeds(), format!("{pushed}\n{pushed}"));
    // The store gives it on as it is.
    let layout = cx.root().join("image");
    cx.host(&format!("skopeo copy -q --insecure-policy --all oci:{}:{name} oci:copy:x", layout.display())).prints("");
    assert_eq!(digest(&cx.host("skopeo inspect --raw oci:copy:x").stdout), pushed);
    let tree = cx.ctr("images --tree").succeeds();
    assert!(tree.contains("├─ linux/") && tree.contains("└─ linux/s390x") && tree.contains(&name), "{tree}");
    cx.ctr(&format!("rmi --platform linux/s390x {name}")).succeeds();
    cx.ctr(&format!("images -q --no-trunc {name}")).prints(&format!("{}\n", one.id()));
    cx.ctr(&format!("rmi {name}")).succeeds();
    cx.ctr("images -qa").prints("");
    let left = std::fs::read_dir(layout.join("blobs/sha256")).unwrap().count();
    assert_eq!(left, 0, "blobs left");
});
