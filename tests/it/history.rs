//! `ctr history`.

use crate::support::{Entry, Image, both};

both!(each_step_and_its_layer, |cx| {
    let app = Image::small("app:1", [Entry::file("v", 0o644, vec![b'x'; 5000])]);
    cx.load(&app);
    let id = app.id();
    cx.ctr("history app:1").prints(&format!(
        "IMAGE          CREATED       CREATED BY   SIZE      COMMENT\n\
         {}   [..] ago   test         5kB       \n<missing>      [..] ago   test         [..]MB    \n",
        &id[7..19]
    ));
    cx.ctr("history -q --no-trunc app:1").prints(&format!("{id}\n<missing>\n"));
    cx.ctr("image history -H=false --format '{{.CreatedSince}} {{.Size}}' app:1")
        .prints("2024-02-03T04:05:06Z 5000\n2024-02-03T04:05:06Z [..]\n");
    cx.ctr("history --format '{{json .}}' app:1").prints(&format!(
        "{{\"Comment\":\"\",\"CreatedAt\":\"2024-02-03T04:05:06Z\",\"CreatedBy\":\"test\",\"CreatedSince\":\"[..] ago\",\
         \"ID\":\"{}\",\"Size\":\"5kB\"}}\n[..]\n",
        &id[7..19]
    ));
    cx.ctr("history nosuch").refuses(1, "No such image: nosuch:latest");
    cx.ctr("history --platform linux/s390x app:1").refuses(
        1,
        "image with reference app:1 was found but does not match the specified platform: wanted linux/s390x, actual: [..]",
    );
});

both!(a_step_of_ones_own, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox sh -c 'echo what is written here is longer than forty-five characters > /file'")
        .prints("");
    cx.ctr("commit -m 'said so' box mine").succeeds();
    cx.ctr("history --format '{{.CreatedBy}}|{{.Size}}|{{.Comment}}' mine")
        .prints("sh -c echo what is written here is longer th…|58B|said so\ntest|[..]MB|\n");
    cx.ctr("history --no-trunc --format '{{.CreatedBy}}' mine")
        .prints("sh -c echo what is written here is longer than forty-five characters > /file\ntest\n");
});

// It says what there is, and the rest with nothing.
both!(a_damaged_layer_is_a_step_still, |cx| {
    cx.busybox();
    let layer = cx.root().join("layers").join(&Image::busybox().diff_ids()[0][7..]);
    std::fs::write(layer.with_extension("json"), "{").unwrap();
    cx.ctr("history --format '{{.CreatedBy}} {{.Size}}' busybox").prints("test 0B\n");
});
