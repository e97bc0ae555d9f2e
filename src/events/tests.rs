use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::filter::Filters;
use super::follow::{From, Reader};
use super::{Actor, Event, log};
use crate::store::Store;

fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
    Event {
        status: String::new(),
        id: String::new(),
        from: String::new(),
        kind: kind.into(),
        action: action.into(),
        actor: Actor { id: id.into(), attributes: super::owned(attributes) },
        scope: "local".into(),
        time: 0,
        nanos: 0,
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::at(home.path().join("root"), home.path().join("run"));
    (home, store)
}

fn actions(reader: &mut Reader) -> Vec<String> {
    std::iter::from_fn(|| reader.next().unwrap()).map(|event| event.action).collect()
}

#[test]
fn a_live_reader_sees_each_event_once_in_order_across_files() {
    const WRITERS: usize = 4;
    const EACH: usize = 500;
    let (_home, store) = store();
    let ended = AtomicBool::new(false);
    let (written, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut reader = Reader::open(&store, From::End).unwrap();
    let mut seen: Vec<Event> = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, written, read) = (&store, &written, &read);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let mut event = event("container", &n.to_string(), &writer.to_string(), &[]);
                        // A new file every hundred events or so, of which three are there: the reader keeps
                        // up with the writers, however busy the machine is.
                        while written.load(Ordering::SeqCst).saturating_sub(read.load(Ordering::SeqCst)) > 100 {
                            std::thread::yield_now();
                        }
                        written.fetch_add(1, Ordering::SeqCst);
                        log::append_to(store, &mut event, 16 * 1024).unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for writer in writers {
                writer.join().unwrap();
            }
            ended.store(true, Ordering::SeqCst);
        });
        loop {
            let is_last_round = ended.load(Ordering::SeqCst);
            while let Some(event) = reader.next().unwrap() {
                seen.push(event);
                read.fetch_add(1, Ordering::SeqCst);
            }
            if is_last_round {
                break;
            }
        }
    });
    assert!(!reader.has_lost());
    assert_eq!(seen.len(), WRITERS * EACH);
    assert!(seen.is_sorted_by_key(|event| event.nanos));
    for writer in 0..WRITERS {
        let own = seen.iter().filter(|event| event.actor.id == writer.to_string()).map(|event| &event.action);
        assert!(own.eq((0..EACH).map(|n| n.to_string()).collect::<Vec<_>>().iter()), "writer {writer}");
    }
}

#[test]
fn what_is_no_line_is_left_out() {
    let (_home, store) = store();
    let append = |action: &str| log::append_to(&store, &mut event("image", action, "x", &[]), 1 << 20).unwrap();
    append("one");
    let mut file = std::fs::File::options().append(true).open(log::file(&store, 0)).unwrap();
    file.write_all(b"\0\0\0\nno event\n{\"Type\":\"imag").unwrap();
    append("two");
    let mut reader = Reader::open(&store, From::Start).unwrap();
    assert_eq!(actions(&mut reader), ["one", "two"]);
    // Half a line may become a whole one.
    file.write_all(&serde_json::to_vec(&event("image", "three", "x", &[])).unwrap()).unwrap();
    assert_eq!(actions(&mut reader), [""; 0]);
    file.write_all(b"\n").unwrap();
    assert_eq!(actions(&mut reader), ["three"]);
}

#[test]
fn a_reader_that_stood_still_for_too_long_says_so() {
    let (_home, store) = store();
    let append = |action: &str| log::append_to(&store, &mut event("image", action, "x", &[]), 1).unwrap();
    append("0");
    let mut reader = Reader::open(&store, From::End).unwrap();
    (1..=4).for_each(|n| append(&n.to_string()));
    // A file for each, of which three are there.
    assert_eq!(actions(&mut reader), ["2", "3", "4"]);
    assert!(reader.has_lost() && !reader.has_lost());
    assert_eq!(actions(&mut Reader::open(&store, From::Start).unwrap()), ["2", "3", "4"]);
}

#[test]
fn a_file_that_is_held_locked_holds_up_nobody() {
    let (_home, store) = store();
    log::append_to(&store, &mut event("image", "one", "x", &[]), 1).unwrap();
    let file = std::fs::File::open(log::file(&store, 0)).unwrap();
    file.lock().unwrap();
    log::append_to(&store, &mut event("image", "two", "x", &[]), 1).unwrap();
    assert_eq!(actions(&mut Reader::open(&store, From::Start).unwrap()), ["one", "two"]);
}

#[test]
fn filters_are_dockers() {
    let matches = |filters: &[(&str, &str)], event: &Event| {
        let given: Vec<_> = filters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Filters::check(&given).unwrap().matches(event)
    };
    let die = event("container", "die", "abcdef", &[("name", "web"), ("image", "host:5000/app:1"), ("a", "1")]);
    for filters in [
        &[("container", "abc")][..],
        &[("container", "web"), ("container", "x")],
        &[("event", "start"), ("event", "die")],
        &[("type", "container"), ("scope", "local")],
        &[("image", "host:5000/app")],
        &[("image", "host:5000/app:1")],
        &[("label", "a"), ("label", "a=1")],
    ] {
        assert!(matches(filters, &die), "{filters:?}");
    }
    for filters in [
        &[("container", "bcd")][..],
        &[("event", "di")],
        &[("type", "image")],
        &[("scope", "swarm")],
        &[("image", "app")],
        &[("label", "a"), ("label", "b")],
        &[("container", "web"), ("event", "start")],
    ] {
        assert!(!matches(filters, &die), "{filters:?}");
    }
    let exec = event("container", "exec_start: sh -c true", "abcdef", &[]);
    assert!(matches(&[("event", "exec_start")], &exec) && !matches(&[("event", "exec_create")], &exec));
    let pull = event("image", "pull", "busybox:latest", &[("name", "busybox")]);
    assert!(matches(&[("image", "busybox")], &pull) && matches(&[("image", "busybox:latest")], &pull));
    assert!(Filters::check(&[("foo".into(), "x".into())]).is_err());
}

#[test]
fn a_line_is_as_dockers_api_has_it() {
    let (_home, store) = store();
    super::image(&store, "sha256:1", "busybox:latest", "tag", &BTreeMap::from([("a".into(), "1".into())]));
    let text = std::fs::read_to_string(log::file(&store, 0)).unwrap();
    let start = "{\"status\":\"tag\",\"id\":\"sha256:1\",\"Type\":\"image\",\"Action\":\"tag\",\"Actor\":{\"ID\":\
                 \"sha256:1\",\"Attributes\":{\"a\":\"1\",\"name\":\"busybox:latest\"}},\"scope\":\"local\",\"time\":";
    assert!(text.starts_with(start) && text.contains(",\"timeNano\":") && text.ends_with("}\n"), "{text}");
}
