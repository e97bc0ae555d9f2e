//! `policy.json`: what is accepted, what is rejected, and whose signature counts. The signatures are
//! made by openssl, and laid where cosign lays them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Entry, Image, Reply, Sandbox, Server, both, digest};

fn policy(cx: &Sandbox, requirements: &Value, host: &str) -> String {
    for dir in ["home/.config", "home/.config/containers"] {
        cx.make_dir(dir);
    }
    let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {host: requirements}}});
    cx.make_file("home/.config/containers/policy.json", policy.to_string()).display().to_string()
}

fn openssl(dir: &Path, line: &str) -> Vec<u8> {
    let done = Command::new("openssl").args(line.split(' ')).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// Lays a signature beside an image: the text says `claimed`.
fn sign(server: &Server, dir: &Path, key: &str, image: &Image, claimed: &str) {
    use base64::Engine;
    let (name, _) = image.name.rsplit_once(':').unwrap();
    let is = digest(&image.manifest());
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": claimed},
            "image": {"docker-manifest-digest": is},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string();
    std::fs::write(dir.join("payload"), &payload).unwrap();
    let signature = openssl(dir, &format!("dgst -sha256 -sign {key} payload"));
    let config = b"{}".to_vec();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": 2},
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": digest(payload.as_bytes()),
            "size": payload.len(),
            "annotations": {
                "dev.cosignproject.cosign/signature": base64::engine::general_purpose::STANDARD.encode(signature),
            },
        }],
    });
    server.put(
        &format!("/v2/{name}/blobs/{}", digest(payload.as_bytes())),
        Reply::ok("application/octet-stream", payload),
    );
    let tag = format!("{}.sig", is.replace(':', "-"));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    server.put(&format!("/v2/{name}/manifests/{tag}"), Reply::ok(kind, manifest.to_string()));
}

both!(rejected_accepted_and_not_supported, |cx| {
    let server = Server::start();
    let reference = server.serve_image(&Image::small("policy/app:1", [Entry::file("x", 0o644, "x")]));
    let file = policy(cx, &json!([{"type": "reject"}]), &server.host);
    let refused = |why: &str| {
        format!("ctr: image \"{reference}\" is refused by the policy: {why}\nhint: the policy is \"{file}\"\n")
    };
    cx.ctr(&format!("pull -q {reference}")).is(1, "", &refused("it rejects it"));
    cx.ctr(&format!("run --rm -q {reference} true")).fails_saying(125, "is refused by the policy");
    let asked = server.asked();
    assert!(!asked.iter().any(|line| line.contains("/blobs/")), "{asked:#?}");
    for (requirement, kind) in [
        (json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}), "signedBy"),
        (json!({"type": "sigstoreSigned", "fulcio": {}, "rekorPublicKeyData": "x"}), "sigstoreSigned with fulcio"),
        (
            json!({"type": "sigstoreSigned", "keyPath": "/k", "rekorPublicKeyPath": "/r"}),
            "sigstoreSigned with rekorPublicKeyPath",
        ),
        (json!({"type": "someday"}), "someday"),
    ] {
        policy(cx, &json!([{"type": "insecureAcceptAnything"}, requirement]), &server.host);
        cx.ctr(&format!("pull -q {reference}")).is(
            1,
            "",
            &refused(&format!("it wants \"{kind}\", which is not supported")),
        );
    }
    cx.make_file("home/.config/containers/policy.json", "{\"default\": [{\"type\": \"reject\"}], \"x\": 1}");
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, &format!("read \"{file}\": unknown field `x`"));
    policy(cx, &json!([{"type": "insecureAcceptAnything"}]), &server.host);
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
});

both!(archives_go_by_their_own_transport, |cx| {
    let image = Image::small("policy/archived:1", [Entry::file("x", 0o644, "x")]);
    let (oci, docker) = (image.oci_archive(), image.docker_archive());
    let load = |archive: &Path| cx.ctr_args(["load", "-q", "-i", archive.to_str().unwrap()]);
    let refused = |why: &str, file: &str| {
        format!("ctr: the archive is refused by the policy: {why}\nhint: the policy is \"{file}\"\n")
    };
    let file = policy(cx, &json!([{"type": "insecureAcceptAnything"}]), "localhost");
    load(&oci).is(1, "", &refused("it rejects what comes by \"oci-archive\"", &file));
    load(&docker).is(1, "", &refused("it rejects what comes by \"docker-archive\"", &file));
    let signed = json!([{"type": "sigstoreSigned", "keyPath": "/k"}]);
    let by = |requirements: &Value| {
        let policy = json!({"default": [{"type": "reject"}], "transports": {"oci-archive": {"": requirements}}});
        cx.make_file("home/.config/containers/policy.json", policy.to_string());
    };
    by(&signed);
    load(&oci).is(1, "", &refused("it wants a signature, and an archive has none", &file));
    cx.ctr("images -q").prints("");
    by(&json!([{"type": "insecureAcceptAnything"}]));
    load(&oci).prints("Loaded image: policy/archived:1\n");
});

both!(signatures_of_cosign, |cx| {
    let dir = cx.make_dir("keys");
    openssl(&dir, "ecparam -name prime256v1 -genkey -noout -out ours.key");
    openssl(&dir, "ec -in ours.key -pubout -out ours.pub");
    openssl(&dir, "genrsa -out theirs.key 2048");
    openssl(&dir, "rsa -in theirs.key -pubout -out theirs.pub");
    let (ours, theirs) = (dir.join("ours.pub"), dir.join("theirs.pub"));
    let server = Server::start();
    let image = Image::small("signed/app:1", [Entry::file("x", 0o644, "signed\n")]);
    let reference = server.serve_image(&image);
    let pull = format!("pull -q {reference}");
    let repository = json!({"type": "matchRepository"});
    let by = |key: &Path| json!([{"type": "sigstoreSigned", "keyPath": key, "signedIdentity": repository}]);

    policy(cx, &by(&ours), &server.host);
    cx.ctr(&pull).fails_saying(1, "a signature is required, and there is none");
    let claimed = format!("{}/signed/app", server.host);
    sign(&server, &dir, "theirs.key", &image, &claimed);
    cx.ctr(&pull).fails_saying(1, "no signature is by a key that it trusts");
    policy(cx, &by(&theirs), &server.host);
    cx.ctr(&pull).prints(&format!("{reference}\n"));
    cx.ctr(&format!("run --rm {reference} cat /x")).prints("signed\n");
    cx.ctr(&format!("rmi {reference}")).succeeds();

    sign(&server, &dir, "ours.key", &image, &claimed);
    policy(
        cx,
        &json!([{"type": "sigstoreSigned", "keyPaths": [theirs, ours], "signedIdentity": repository}]),
        &server.host,
    );
    cx.ctr(&pull).prints(&format!("{reference}\n"));
    // With its tag, as the policy has it where nothing is said.
    policy(cx, &json!([{"type": "sigstoreSigned", "keyPath": ours}]), &server.host);
    cx.ctr(&pull).fails_saying(1, "it is signed as");
    sign(&server, &dir, "ours.key", &image, &reference);
    cx.ctr(&pull).prints(&format!("{reference}\n"));
    // Both have to have signed.
    policy(
        cx,
        &json!([{"type": "sigstoreSigned", "keyPath": ours}, {"type": "sigstoreSigned", "keyPath": theirs}]),
        &server.host,
    );
    cx.ctr(&pull).fails_saying(1, "no signature is by a key that it trusts");
    // A good signature of another image.
    let other = Image::small("signed/app:1", [Entry::file("x", 0o644, "forged\n")]);
    server.serve_image(&other);
    let moved = digest(&other.manifest()).replace(':', "-");
    let signature = format!("/v2/signed/app/manifests/{}.sig", digest(&image.manifest()).replace(':', "-"));
    server.copy(&signature, &format!("/v2/signed/app/manifests/{moved}.sig"));
    policy(cx, &json!([{"type": "sigstoreSigned", "keyPath": ours}]), &server.host);
    cx.ctr(&pull).fails_saying(1, "a signature is for another image");
    // A key that is none.
    let bad = cx.make_file("keys/bad.pub", "x");
    policy(cx, &by(&bad), &server.host);
    cx.ctr(&pull).fails_saying(1, &format!("key \"{}\": it is not a public key in PEM", bad.display()));
});
