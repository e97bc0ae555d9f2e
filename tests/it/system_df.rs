//! `ctr system df`.

use crate::support::{Entry, Image, both};

both!(each_layer_counts_once, |cx| {
    cx.ctr("system df").prints(
        "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
         Images          0         0         0B        0B\n\
         Containers      0         0         0B        0B\n\
         Local Volumes   0         0         0B        0B\n\
         Build Cache     0         0         0B        0B\n",
    );
    cx.busybox();
    cx.load(&Image::small("small:1", [Entry::file("more", 0o644, vec![b'x'; 5000])]));
    let bytes = |filter: &str| {
        let format = "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}";
        let all = cx.ctr(&format!("system df --format '{format}'")).succeeds();
        all.lines().find(|line| line.starts_with(filter)).unwrap().to_owned()
    };
    let whole = cx.ctr("images --format '{{.Size}}' busybox").succeeds();
    let images = bytes("Images");
    // Its files and its compressed layers; of three digits, the 5 kB of the second image do not show.
    let megabytes = |text: &str| text.trim_end_matches("MB").parse::<f64>().unwrap();
    let blob = u32::try_from(Image::busybox().blobs()[0].1.len()).unwrap();
    let both = megabytes(&whole) + f64::from(blob) / 1e6;
    let size = megabytes(images.split(' ').nth(3).unwrap());
    assert!((size - both).abs() < 0.1 && images.starts_with("Images 2 0 ") && images.ends_with(" (100%)"), "{images}");
    let data = "{{range .ImageData}}{{.Type}}|{{.TotalCount}}|{{.Active}}|{{println .Size}}{{end}}";
    let data = cx.ctr(&format!("system df -v --format '{data}'")).succeeds();
    assert!(data.starts_with("Compressed Layers|2|2|") && data.contains("\nUnreferenced|0|0|0B\n"), "{data}");
    cx.ctr("run --name box small:1 sh -c 'head -c 100000 /dev/zero > /file'").prints("");
    assert_eq!(bytes("Containers"), "Containers 1 0 100kB 100kB (100%)");
    // The one in use has the layer of the other.
    assert!(bytes("Images").starts_with("Images 2 1 ") && bytes("Images").ends_with(" 0B (0%)"), "{}", bytes("Images"));
    cx.ctr("run -d --name web busybox sleep 1000").succeeds();
    assert_eq!(bytes("Containers"), "Containers 2 1 100kB 100kB (100%)");
    cx.ctr("system df --format json").is(
        0,
        "{\"Active\":\"2\",\"Reclaimable\":\"0B (0%)\",\"Size\":\"[..]MB\",\"TotalCount\":\"2\",\"Type\":\"Images\"}\n[..]\n[..]\n[..]\n",
        "",
    );

    let verbose = cx.ctr("system df -v");
    let small = &Image::small("small:1", [Entry::file("more", 0o644, vec![b'x'; 5000])]).id()[7..19];
    let base = &Image::busybox().id()[7..19];
    let rows = [
        format!("busybox      latest    {base}   [..] ago   {whole}    [..]MB       0B            1"),
        format!("small        1         {small}   [..] ago   [..]MB    [..]MB       5kB           1"),
    ];
    verbose.prints(&format!(
        "Images space usage:\n\n\
         REPOSITORY   TAG       IMAGE ID       CREATED[..]SIZE      SHARED SIZE   UNIQUE SIZE   CONTAINERS\n\
         {}\n{}\n\
         \nContainers space usage:\n\n\
         CONTAINER ID   IMAGE     COMMAND                  LOCAL VOLUMES   SIZE      CREATED[..]STATUS[..]NAMES\n\
         [..]   busybox   \"sleep 1000\"             0               0B        [..] ago[..]Up [..]web\n\
         [..]   small:1   \"sh -c 'head -c 1000…\"   0               100kB     [..] ago[..]Exited (0) [..]box\n\
         \nLocal Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\n\
         \nBuild cache usage: 0B\n\nCACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n\
         \nImage data space usage:\n\nTYPE                TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
         Compressed Layers   2         2         [..]MB   0B (0%)\n\
         Unreferenced        0         0         0B        0B\n",
        rows[0], rows[1]
    ));
    cx.ctr("system df -v --format '{{range .Containers}}{{.Names}} {{end}}{{len .Volumes}}'").prints("web box 0\n");
    cx.ctr("system df --format '{{.Foo}}'").fails_saying(1, "Foo");
});
