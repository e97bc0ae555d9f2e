//! `ctr system check`.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Image, both, until};

const HINT: &str = "ctr system check --repair puts in order what can be without a loss\n";

both!(records_names_and_killed_monitors, |cx| {
    cx.ctr("system check").prints("");
    cx.busybox();
    let id = cx.ctr("create --name box busybox true").succeeds();
    let web = cx.ctr("run -d --name web busybox sleep 1000").succeeds();
    cx.ctr("system check").prints("");
    fs::remove_file(cx.root().join("names/box")).unwrap();
    symlink(format!("../containers/{}", "0".repeat(64)), cx.root().join("names/stale")).unwrap();
    let left = cx.root().join("containers").join(format!("tmp-{}-0-{}", 1 << 30, pid_namespace()));
    fs::create_dir(&left).unwrap();
    let (box_, stale) = (
        format!("container box ({}): nothing leads from its name \"box\" to it\n", &id[..12]),
        "name stale: it leads to a container that is not there\n",
    );
    let garbage = format!("{}: left half made by a command that was killed\n", left.display());
    cx.ctr("system check --quick").is(1, &format!("{box_}{stale}{garbage}"), HINT);
    cx.ctr("system check --quick --repair").prints(&format!(
        "{box_}  repaired: make the link again\n{stale}  repaired: remove the link\n{garbage}  repaired: remove it\n"
    ));
    cx.ctr("system check -q").prints("");
    cx.ctr("container exists box").prints("");
    assert!(!left.exists() && !cx.root().join("names/stale").is_symlink());

    let process = fs::read_to_string(cx.root().join("containers").join(&web).join("process.json")).unwrap();
    let process: serde_json::Value = serde_json::from_str(&process).unwrap();
    let monitor = Pid::from_raw(i32::try_from(process["monitor"].as_i64().unwrap()).unwrap());
    kill(monitor, Signal::SIGKILL).unwrap();
    until("the monitor is gone", || kill(monitor, None).is_err());
    let found = cx.ctr("system check -q --repair");
    let words = format!("container web ({}): recorded as running, and its monitor is gone\n", &web[..12]);
    assert!(found.code == 0 && found.out().starts_with(&words), "{found}");
    cx.ctr("system check -q").prints("");
    cx.ctr("ps -a --filter name=web --format '{{.Status}}'").prints("Exited (137) [..] ago\n");

    fs::write(cx.root().join("containers").join(&id).join("config.json"), "{").unwrap();
    let damaged = cx.ctr("system check -q --repair");
    let lines = format!(
        "container box ({}): read [..]config.json\": damaged record: [..]\n  not repaired: ctr rm -f {} removes it\n",
        &id[..12],
        &id[..12]
    );
    damaged.is(1, &lines, "");
    cx.ctr("rm -f box").prints("box\n");
    cx.ctr("system check").prints("");
});

both!(images_layers_and_blobs, |cx| {
    cx.busybox();
    let image = Image::busybox().id();
    cx.ctr("create --name box busybox true").succeeds();
    let layers = cx.root().join("layers");
    let mut records = fs::read_dir(&layers).unwrap().flatten().map(|entry| entry.path());
    let record = records.find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    let layer = record.with_extension("");
    let short = &layer.file_name().unwrap().to_str().unwrap()[..12].to_owned();
    // A file of it is gone, the layer itself, its record.
    let cat = format!("rm {0}/etc/passwd && rm -r {0}/tmp", layer.display());
    if cx.is_root() {
        cx.host(&cat).succeeds();
    } else {
        cx.ctr_args(["unshare", "sh", "-c", &cat]).succeeds();
    }
    let less = format!("layer {short}: its files have [..] bytes, its record says [..]\n");
    cx.ctr("system check --quick").prints("");
    cx.ctr("system check").is(1, &less, HINT);
    cx.ctr("system check --repair").prints(&format!("{less}  repaired: unpack it again from its blob\n"));
    fs::remove_file(&record).unwrap();
    cx.ctr("system check -q -r")
        .prints(&format!("layer {short}: its record is missing\n  repaired: unpack it again from its blob\n"));
    cx.ctr("system check").prints("");
    cx.ctr("run --rm busybox cat /etc/group").succeeds();

    // Bytes of the configuration change: nothing here has the right ones.
    let config = cx.root().join("image/blobs/sha256").join(&image[7..]);
    let good = fs::read(&config).unwrap();
    fs::write(&config, [&good[..], b" "].concat()).unwrap();
    let name = format!("image docker.io/library/busybox:latest ({})", &image[7..19]);
    cx.ctr("system check -q").prints("");
    cx.ctr("system check --repair").is(
        1,
        &format!(
            "{name}: its configuration is damaged: its bytes have the digest sha256:[..]\n  not repaired: load or build \
             docker.io/library/busybox:latest again\n"
        ),
        "",
    );
    fs::write(&config, good).unwrap();
    cx.ctr("system check").prints("");
    // What nothing needs.
    fs::write(cx.root().join("image/blobs/sha256").join("1".repeat(64)), "x").unwrap();
    cx.ctr("system check -r")
        .prints("images: 1 blobs and 0 layers, 1 bytes, that nothing needs\n  repaired: remove them\n");
});

/// The number in names of what is being made.
fn pid_namespace() -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata("/proc/self/ns/pid").unwrap())
}
