//! `ctr load`, and what an archive may do to it: either all of its images are here afterwards, or
//! nothing.

use serde_json::{Value, json};

use crate::support::{Entry, Image, Layer, Packing, Sandbox, both, digest, publish};

fn app() -> Image {
    Image::small("app:1", [Entry::file("hello", 0o644, "hi\n")])
}

/// The members of an OCI archive of this image.
fn members(image: &Image) -> Vec<(String, Vec<u8>)> {
    let manifest = image.manifest();
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&manifest),
            "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": image.name},
        }],
    });
    let blob = |(digest, bytes): (String, Vec<u8>)| (digest.replace("sha256:", "blobs/sha256/"), bytes);
    let blobs = image.blobs().into_iter().chain([(digest(&manifest), manifest)]).map(blob);
    let documents = [
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
    ];
    documents.into_iter().chain(blobs).collect()
}

fn entries(members: &[(String, Vec<u8>)]) -> Vec<Entry> {
    members.iter().map(|(name, bytes)| Entry::file(name, 0o644, bytes)).collect()
}

/// It is refused with this sentence, and nothing of it is left.
#[track_caller]
fn refused(cx: &Sandbox, archive: Vec<Entry>, reason: &str) {
    let path = publish("hostile", &Layer(archive).tar());
    cx.ctr_args(["load", "-i", path.to_str().unwrap()]).refuses(1, reason);
    cx.ctr_reads("load", std::fs::read(&path).unwrap()).refuses(1, reason);
    cx.ctr("images -qa").prints("");
    for dir in ["layers", "image/blobs/sha256"] {
        let left = std::fs::read_dir(cx.root().join(dir)).unwrap().count();
        assert_eq!(left, 0, "left in {dir} after: {reason}");
    }
}

both!(links_out_of_the_archive, |cx| {
    let all = members(&app());
    for (target, hard) in [("/etc/passwd", false), ("../../../../etc/passwd", false), ("../../etc/passwd", true)] {
        let mut archive = entries(&all[..2]);
        for (name, bytes) in &all[2..] {
            archive.push(match (*name == all[2].0, hard) {
                (true, true) => Entry::hard_link(name, target),
                (true, false) => Entry::symlink(name, target),
                (false, _) => Entry::file(name, 0o644, bytes),
            });
        }
        refused(
            cx,
            archive,
            "layer \"[..]\": damaged archive: the member \"blobs/sha256/[..]\" is a link that leads out of it",
        );
    }
    let mut archive = entries(&all[1..]);
    archive.push(Entry::symlink("manifest.json", "/etc/passwd"));
    refused(cx, archive, "damaged archive: the member \"manifest.json\" is a link that leads out of it");
});

both!(a_file_that_is_not_there, |cx| {
    cx.ctr("load -i /nonexist").is(1, "", "ctr: open /nonexist: no such file or directory\n");
    cx.ctr("import /nonexist").is(1, "", "ctr: open /nonexist: no such file or directory\n");
});

both!(members_that_are_missing_or_twice, |cx| {
    let all = members(&app());
    for n in 2..all.len() {
        let mut some = all.clone();
        let (gone, _) = some.remove(n);
        refused(cx, entries(&some), &format!("[..]damaged archive: it has no member \"{gone}\""));
    }
    for n in [1, 2] {
        let mut twice = all.clone();
        twice.push((all[n].0.clone(), b"other".to_vec()));
        let reason = format!("read the archive: damaged archive: it has the member \"{}\" twice", all[n].0);
        refused(cx, entries(&twice), &reason);
    }
});

both!(what_is_not_what_its_digest_says, |cx| {
    let all = members(&app());
    for n in 2..all.len() {
        let mut wrong = all.clone();
        wrong[n].1.push(b' ');
        refused(cx, entries(&wrong), "[..]");
    }
    // A configuration that speaks of another layer.
    let other = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let lying = Image::new("lie:1").packed(Packing::Plain).layer_blob(Layer::new([]).tar(), other.to_owned());
    refused(
        cx,
        entries(&members(&lying)),
        "layer \"[..]\": its files have the digest [..], the configuration says [..]",
    );
    // The same where layers bear no digest.
    let archive = std::fs::read(lying.docker_archive()).unwrap();
    cx.ctr_reads("load", archive).refuses(1, "layer \"[..]\": its files have the digest [..]");
    cx.ctr("images -q").prints("");
});

both!(documents_that_make_no_sense, |cx| {
    let with = |name: &str, content: &str| {
        let mut all = members(&app());
        all.retain(|(other, _)| other != name);
        all.push((name.to_owned(), content.as_bytes().to_vec()));
        entries(&all)
    };
    refused(cx, with("index.json", "{"), "index.json: damaged manifest: [..]");
    refused(cx, with("index.json", r#"{"schemaVersion":2,"manifests":[]}"#), "the archive has no image");
    refused(
        cx,
        with("index.json", r#"{"schemaVersion":2,"manifests":[{"digest":"../x","size":1}]}"#),
        "[..]not a digest[..]",
    );
    let itself = br#"{"schemaVersion":2,"manifests":[]}"#;
    let name = digest(itself);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{name}","size":1}}]}}"#);
    let mut all = entries(&[(name.replace("sha256:", "blobs/sha256/"), itself.to_vec())]);
    all.extend(with("index.json", &index));
    refused(cx, all, "[..]no matching manifest for linux/[..]");
    refused(cx, with("manifest.json", "[{\"Config\":3}]"), "damaged manifest.json: [..]");
    // Larger than any document.
    refused(
        cx,
        with("index.json", &" ".repeat(5 << 20)),
        "member \"index.json\": it is larger than 4 MiB, the most that is read",
    );
    refused(
        cx,
        vec![Entry::file("a", 0o644, "x")],
        "not an image archive: it has neither manifest.json nor index.json",
    );
});

both!(archives_that_end_too_early, |cx| {
    let tar = Layer(entries(&members(&app()))).tar();
    for length in [600, tar.len() / 2, tar.len() - 1500] {
        let path = publish("short", &tar[..length]);
        cx.ctr_args(["load", "-i", path.to_str().unwrap()]).refuses(1, "[..]");
        cx.ctr_reads("load", &tar[..length]).refuses(1, "[..]");
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    let gzip = gzip.finish().unwrap();
    cx.ctr_reads("load", &gzip[..gzip.len() / 2]).refuses(1, "read the archive: [..]ends too early");
    cx.ctr("images -q").prints("");
    cx.leaves_nothing();
});

both!(what_other_programs_decompress, |cx| {
    let archive = Layer(entries(&members(&app()))).tar();
    let files = Layer::new([Entry::file("hello", 0o644, "hi\n")]).tar();
    for (program, end) in [("xz", "xz"), ("bzip2", "bz2")] {
        for (name, bytes) in [("app.tar", &archive), ("files.tar", &files)] {
            cx.make_file(&format!("cwd/{name}"), bytes);
            cx.host(&format!("{program} -kf {name}")).succeeds();
        }
        cx.ctr(&format!("load -q -i app.tar.{end}")).succeeds();
        cx.ctr(&format!("import files.tar.{end} made:1")).succeeds();
        let whole = std::fs::read(cx.cwd().join(format!("files.tar.{end}"))).unwrap();
        cx.ctr_reads("import - made:2", &whole).succeeds();
        cx.ctr("run --rm app:1 cat /hello").prints("hi\n");
        let images = cx.ctr("images --filter reference=made --format '{{.Tag}} {{.Size}}'").succeeds();
        assert_eq!(images, "2 3B\n1 3B");
        cx.ctr_reads("import - bad", &whole[..whole.len() / 2])
            .refuses(1, &format!("import the archive: damaged compressed data: \"{program}\" cannot read it"));
        cx.ctr("rmi app:1 made:1 made:2").succeeds();
        // An ordinary user's namespace needs programs of its own.
        if !cx.is_root() {
            continue;
        }
        cx.set("PATH", "/nowhere");
        let package = if program == "xz" { "xz-utils" } else { program };
        cx.ctr(&format!("load -i app.tar.{end}")).is(
            1,
            "",
            &format!(
                "ctr: read the archive: it is compressed with {program}: run \"{program}\": no such file or directory\n\
                 hint: install \"{program}\" (Debian: apt-get install {package}), or decompress it first\n"
            ),
        );
        cx.set("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    }
    cx.leaves_nothing();
});

// The second of two images is bad: the first is not here either.
both!(all_or_nothing, |cx| {
    let (good, bad) = (app(), Image::small("bad:1", [Entry::file("x", 0o644, "x")]));
    let (one, mut two) = (members(&good), members(&bad));
    let index = |all: &[(String, Vec<u8>)]| -> Value { serde_json::from_slice(&all[1].1).unwrap() };
    let both = json!({"schemaVersion": 2, "manifests": [index(&one)["manifests"][0], index(&two)["manifests"][0]]});
    let last = two.len() - 1;
    let name = two[3].0.clone();
    assert!(two[last].0 != name);
    two[3].1[20] ^= 1;
    let mut all: Vec<_> = one.into_iter().filter(|(name, _)| name != "index.json").collect();
    all.push(("index.json".to_owned(), both.to_string().into_bytes()));
    for member in two.into_iter().skip(2) {
        if !all.iter().any(|(name, _)| *name == member.0) {
            all.push(member);
        }
    }
    refused(cx, entries(&all), "layer \"[..]\": [..]");
});

// What was here stays, though an archive that is refused has it too.
both!(what_others_have_stays, |cx| {
    cx.busybox();
    let mut all = members(&app());
    let last = all.len() - 1;
    all[last].1.push(b' ');
    let path = publish("hostile", &Layer(entries(&all)).tar());
    cx.ctr_args(["load", "-i", path.to_str().unwrap()]).refuses(1, "[..]has the digest[..]");
    cx.ctr("run --rm busybox echo works").prints("works\n");
    cx.ctr("system check").prints("");
});

// An index for two platforms, with both: by its name there are both, and the one for this machine runs.
both!(several_platforms, |cx| {
    let (own, other) = (app(), app().config("Env", json!(["PATH=/bin", "OTHER=1"])));
    let entry = |image: &Image, architecture: &str| {
        let manifest = image.manifest();
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&manifest), "size": manifest.len(),
            "platform": {"architecture": architecture, "os": "linux"},
        })
    };
    let own_entry = entry(&own, crate::support::architecture());
    // Its configuration says nothing else; the index decides, as with what many tools write.
    let inner = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&other, "s390x"), own_entry],
    })
    .to_string()
    .into_bytes();
    let top = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(&inner), "size": inner.len(),
            "annotations": {"io.containerd.image.name": "docker.io/library/app:1"},
        }],
    });
    let mut all = members(&own);
    for member in members(&other) {
        if !all.iter().any(|(name, _)| *name == member.0) {
            all.push(member);
        }
    }
    all[1].1 = top.to_string().into_bytes();
    all.push((digest(&inner).replace("sha256:", "blobs/sha256/"), inner.clone()));
    let path = publish("platforms", &Layer(entries(&all)).tar());
    cx.ctr_args(["load", "-i", path.to_str().unwrap()]).prints("Loaded image: app:1\n");
    cx.ctr("run --rm app:1 cat /hello").prints("hi\n");
    let ids = cx.ctr("images -q --no-trunc app:1").succeeds();
    let mut ids: Vec<_> = ids.lines().map(str::to_owned).collect();
    ids.sort_unstable();
    let mut wanted = vec![own.id(), other.id()];
    wanted.sort_unstable();
    assert_eq!(ids, wanted);
    // The name leads other tools to the index, and a save gives it on.
    let layout = cx.root().join("image");
    let raw = format!("skopeo inspect --raw oci:{}:docker.io/library/app:1", layout.display());
    assert_eq!(cx.host(&raw).out().trim_end().as_bytes(), inner);
    cx.ctr("save -o both.tar app:1").prints("");
    let out = cx.ctr("rmi app:1").succeeds();
    assert_eq!(out.lines().filter(|line| line.starts_with("Untagged")).count(), 1, "{out}");
    for id in [own.id(), other.id()] {
        assert!(out.contains(&format!("Deleted: {id}")), "{out}");
    }
    cx.ctr("images -q").prints("");
    cx.ctr("load -i both.tar").prints("Loaded image: app:1\n");
    assert_eq!(cx.host(&raw).out().trim_end().as_bytes(), inner);
    cx.ctr("rmi app:1").succeeds();
    // One of them alone.
    cx.ctr("load -i both.tar --platform linux/s390x").prints("Loaded image: app:1\n");
    cx.ctr("images -q --no-trunc").prints(&format!("{}\n", other.id()));
    cx.ctr("load -i both.tar --platform linux/riscv64").refuses(1, "no matching manifest for linux/riscv64 [..]");
});

/// An archive as `docker save` wrote it, with this for its `manifest.json`.
fn listed(image: &Image, manifest: &Value) -> Vec<Entry> {
    let mut all = entries(&members(image)[2..]);
    all.push(Entry::file("manifest.json", 0o644, manifest.to_string()));
    all
}

both!(lists_that_point_elsewhere, |cx| {
    let image = app();
    let blob = |digest: &str| digest.replace("sha256:", "blobs/sha256/");
    let config = blob(&image.id());
    let layers: Vec<String> = members(&image)[2..4].iter().map(|(name, _)| name.clone()).collect();
    for path in
        ["../../../../../../etc/passwd", "/etc/passwd", "blobs/../../etc/passwd", "", ".", "\u{1b}[2J", "a\u{0}b"]
    {
        let elsewhere = listed(&image, &json!([{"Config": path, "RepoTags": ["x:1"], "Layers": layers}]));
        refused(cx, elsewhere, "[..]damaged archive: [..]");
        let elsewhere = listed(&image, &json!([{"Config": config, "RepoTags": ["x:1"], "Layers": [layers[0], path]}]));
        refused(cx, elsewhere, "layer \"[..]\": damaged archive: [..]");
    }
    for name in
        ["../../x", "/x:1", "a/UPPER:1", "a:b:c", "\u{1b}[2J", "x:1\nctr: fine", "-f", "x@sha256:1", &"a".repeat(300)]
    {
        let named = listed(&image, &json!([{"Config": config, "RepoTags": [name], "Layers": layers}]));
        refused(cx, named, "invalid reference format[..]");
    }
    for layers in [json!([]), json!([layers[0]]), json!([layers[0], layers[1], layers[1]]), Value::Null] {
        let other = listed(&image, &json!([{"Config": config, "RepoTags": ["x:1"], "Layers": layers}]));
        refused(cx, other, "damaged image configuration: it has 2 layers, the manifest [..]");
    }
    refused(cx, listed(&image, &json!([])), "the archive has no image");
});

/// It is refused soon and in little memory, from a file and from a pipe.
#[track_caller]
fn refused_cheaply(cx: &Sandbox, archive: &[u8]) {
    let path = publish("greedy", archive);
    let begin = std::time::Instant::now();
    let (ran, most) = crate::hostile_layers::watched(cx.spawn(&format!("load -q -i {}", path.display())));
    assert!(most < 200_000, "{most} KiB of memory\n{ran}");
    for ran in [ran, cx.ctr_reads("load -q", archive)] {
        assert!(ran.code == 1 && ran.stdout.is_empty() && ran.err().starts_with("ctr: "), "{ran}");
    }
    assert!(begin.elapsed().as_secs() < 30, "it takes too long");
    cx.ctr("images -qa").prints("");
    cx.leaves_nothing();
}

both!(archives_that_want_too_much, |cx| {
    // A member of eight exbibytes, a sparse one of as many, members without an end.
    let header = |kind: u8, name: &str| {
        let mut header = Layer(vec![Entry::file(name, 0o644, "")]).tar();
        header.truncate(512);
        header[124..136].copy_from_slice(&[&[0x80, 0, 0, 0][..], &(1_u64 << 63).to_be_bytes()].concat());
        header[156] = kind;
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    };
    for kind in [b'0', b'S', b'L', b'x', b'1'] {
        refused_cheaply(cx, &[header(kind, "manifest.json"), vec![0; 4096]].concat());
    }
    let many: Vec<Entry> = (0..100_100).map(|n| Entry::file(format!("{n}"), 0o644, "")).collect();
    refused_cheaply(cx, &Layer(many).tar());
    let long: Vec<Entry> = (0..4500).map(|n| Entry::file(format!("{}{n}", "d/".repeat(1990)), 0o644, "")).collect();
    refused_cheaply(cx, &Layer(long).tar());
    // A compressed archive of nothing but zeros, a thousand times larger.
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut member, &vec![0; 1 << 20]).unwrap();
    refused_cheaply(cx, &member.finish().unwrap().repeat(600));
    let oci = Layer(entries(&members(&app()))).tar();
    cx.ctr_reads("load", &oci).prints("Loaded image: app:1\n");
});
