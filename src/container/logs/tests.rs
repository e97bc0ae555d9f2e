//! Files of both forms, plain and compressed.

use std::io::{Seek, SeekFrom, Write};

use super::*;

const FORMATS: [Format; 2] = [Format::Json, Format::Frames];

/// A file of lines; those without `\n` are parts of a longer one.
fn write(format: Format, compressed: bool, lines: &[&str]) -> LogFile {
    let mut bytes = Vec::new();
    for (n, text) in lines.iter().enumerate() {
        let body = text.trim_end_matches('\n');
        match format {
            Format::Json => {
                let time = format!("2024-01-01T00:00:{n:02}Z");
                let record = serde_json::json!({"log": text, "stream": "stdout", "time": time});
                writeln!(bytes, "{record}").unwrap();
            }
            Format::Frames => {
                let length = u32::try_from(body.len()).unwrap().to_le_bytes();
                bytes.extend(length);
                bytes.push(u8::from(text.ends_with('\n')) << 1);
                let seconds = 1_704_067_200 + i64::try_from(n).unwrap();
                bytes.extend((seconds * 1_000_000_000).to_le_bytes());
                bytes.extend(body.as_bytes());
                bytes.extend(length);
            }
        }
    }
    let mut file = tempfile::tempfile().unwrap();
    if compressed {
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&bytes).unwrap();
        file = encoder.finish().unwrap();
    } else {
        file.write_all(&bytes).unwrap();
    }
    LogFile { file, compressed }
}

/// The text from the place on.
fn from(files: Vec<LogFile>, format: Format, start: Start, wanted: &Wanted) -> (String, bool) {
    let (mut text, mut goes_on) = (String::new(), true);
    for (n, file) in files.into_iter().enumerate().skip(start.file) {
        let mut sink = |record: &Record<'_>| {
            text += std::str::from_utf8(&record.text).unwrap();
            text += if record.ended { "\n" } else { "" };
        };
        goes_on = file.reader(format, start.within(n)).drain(wanted, &mut sink).unwrap();
        if !goes_on {
            break;
        }
    }
    (text, goes_on)
}

fn last(files: impl Fn() -> Vec<LogFile>, format: Format, lines: u64) -> String {
    let mut all = files();
    let start = tail(&mut all, format, lines).unwrap();
    from(all, format, start, &Wanted::default()).0
}

#[test]
fn the_last_lines_are_found_from_the_end() {
    for format in FORMATS {
        for compressed in [false, true] {
            let files = || {
                vec![
                    write(format, compressed, &["a\n", "b\n", "c0"]),
                    write(format, compressed, &["c1", "c2\n", "d\n"]),
                    write(format, false, &["e\n"]),
                ]
            };
            let expected = ["", "e\n", "d\ne\n", "c0c1c2\nd\ne\n", "b\nc0c1c2\nd\ne\n", "a\nb\nc0c1c2\nd\ne\n"];
            for (lines, expected) in expected.iter().enumerate() {
                assert_eq!(last(files, format, lines as u64), *expected, "{lines} {format:?} {compressed}");
            }
            assert_eq!(last(files, format, 99), expected[5]);
        }
    }
}

#[test]
fn a_last_line_without_an_end_counts() {
    for format in FORMATS {
        let files = || vec![write(format, true, &["a\n"]), write(format, false, &["b"])];
        assert_eq!(last(files, format, 1), "b");
        assert_eq!(last(files, format, 2), "a\nb");
    }
}

#[test]
fn lines_longer_than_a_block() {
    let long = "x".repeat(200_000) + "\n";
    let files = || vec![write(Format::Json, false, &["a\n", &long, "b\n"])];
    assert_eq!(last(files, Format::Json, 2), long.clone() + "b\n");
    let pieces = vec!["y".repeat(16_000); 9];
    let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
    let files = || vec![write(Format::Frames, false, &[&["a\n"], &pieces[..], &["\n", "b\n"]].concat())];
    assert_eq!(last(files, Format::Frames, 2), "y".repeat(144_000) + "\nb\n");
}

#[test]
fn times_bound_what_is_shown() {
    for format in FORMATS {
        let wanted = Wanted {
            since: Some("2024-01-01T00:00:01Z".parse().unwrap()),
            until: Some("2024-01-01T00:00:02Z".parse().unwrap()),
            ..Wanted::default()
        };
        let files = vec![write(format, false, &["0\n", "1\n", "2\n", "3\n"])];
        assert_eq!(from(files, format, Start::default(), &wanted), ("1\n2\n".to_owned(), false));
    }
}

#[test]
fn damage_costs_no_more_than_what_is_damaged() {
    let mut file = write(Format::Json, false, &["a\n", "b\n"]);
    file.file.seek(SeekFrom::End(0)).unwrap();
    file.file.write_all(b"{\"log\":\"torn\n{\"log\":\"c\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n{\"half").unwrap();
    let text = from(vec![file], Format::Json, Start::default(), &Wanted::default()).0;
    assert_eq!(text, "a\nb\nc\n");
    let mut file = write(Format::Frames, false, &["a\n"]);
    file.file.seek(SeekFrom::End(0)).unwrap();
    file.file.write_all(&[0xff; 100]).unwrap();
    assert_eq!(tail(&mut [file.again().unwrap()], Format::Frames, 1).unwrap(), Start::default());
    assert_eq!(from(vec![file], Format::Frames, Start::default(), &Wanted::default()).0, "a\n");
}

#[test]
fn compressed_files_stand_in_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for (name, compressed, text) in [("log", false, "c\n"), ("log.1", false, "b\n"), ("log.2.gz", true, "a\n")] {
        let mut file = write(Format::Json, compressed, &[text]);
        file.file.seek(SeekFrom::Start(0)).unwrap();
        io::copy(&mut file.file, &mut File::create(dir.path().join(name)).unwrap()).unwrap();
    }
    let files = open_all(&path).unwrap();
    assert_eq!(from(files, Format::Json, Start::default(), &Wanted::default()).0, "a\nb\nc\n");
    assert!(open_all(&dir.path().join("none")).unwrap().is_empty());
}
