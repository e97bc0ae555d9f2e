//! The manual pages in `man/`, made from the clap structs: one for each command and group, `ctr.1` for
//! all, and for each further name of a command a link to its page. Only the unit tests have this: the
//! test below fails when a file there is not what it would write, and writes it where `CTR_BLESS` is set.

mod front;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command};

use super::help::{self, about, chapters, members, paragraphs, usage};
use super::{COMMANDS, Entry, GROUPS, latest, skeleton};

/// What the test says to type.
const BLESS: &str = "CTR_BLESS=1 cargo test --lib man_pages";

/// When the pages were last made for a release; a page made on two days is the same.
const DATE: &str = "2026-11-21";

/// A page in the language of man(7).
struct Page(String);

impl Page {
    fn new(name: &str, about: &str) -> Self {
        let mut page = Self(String::new());
        let title = name.to_uppercase();
        page.line(&format!(".\\\" Made from ctr's source by: {BLESS}"));
        page.line(&format!(".TH \"{title}\" \"1\" \"{DATE}\" \"ctr {}\" \"ctr manual\"", env!("CARGO_PKG_VERSION")));
        page.section("Name");
        page.line(&format!("{} \\- {}", escaped(name), escaped(about)));
        page
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.line(&format!(".SH \"{}\"", title.to_uppercase()));
    }

    fn text(&mut self, text: &str) {
        let text = escaped(text);
        // A line that begins so would be an order to roff.
        let is_order = text.starts_with(['.', '\'']);
        self.line(&if is_order { format!("\\&{text}") } else { text });
    }

    /// Lines as they are, in type of one width.
    fn verbatim<'a>(&mut self, lines: impl Iterator<Item = &'a str>) {
        self.line(".RS 2");
        self.line(".EX");
        for line in lines {
            self.text(line);
        }
        self.line(".EE");
        self.line(".RE");
    }

    /// Paragraphs as [`paragraphs`] has them.
    fn paragraphs(&mut self, all: &[String]) {
        for (nth, paragraph) in all.iter().enumerate() {
            if nth > 0 {
                self.line(".PP");
            }
            let mut lines = paragraph.lines().peekable();
            while let Some(line) = lines.next() {
                if !line.starts_with(' ') {
                    self.text(line);
                    continue;
                }
                let mut block = vec![&line[2.min(line.len())..]];
                while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
                    block.push(&line[2.min(line.len())..]);
                }
                self.verbatim(block.into_iter());
            }
        }
    }

    fn item(&mut self, head: &str, body: &str) {
        self.line(".TP");
        self.line(head);
        self.text(body);
    }

    /// References to other pages, each with what it is about where there is a table.
    fn commands(&mut self, commands: &[(String, String)]) {
        for (name, about) in commands {
            self.item(&format!(".BR {} (1)", escaped(name)), about);
        }
    }

    fn see_also(&mut self, pages: &[String]) {
        self.section("See also");
        for (nth, page) in pages.iter().enumerate() {
            let comma = if nth + 1 < pages.len() { "," } else { "" };
            self.line(&format!(".BR {} (1){comma}", escaped(page)));
        }
    }
}

/// Text that roff shows as it is, whatever it holds.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '\'' => out.push_str("\\(aq"),
            '"' => out.push_str("\\(dq"),
            c if c.is_ascii() => out.push(c),
            c => {
                let _ = write!(out, "\\[u{:04X}]", u32::from(c));
            }
        }
    }
    out
}

/// `network ls` is on the page `ctr-network-ls`.
fn page_name(words: &str) -> String {
    format!("ctr-{}", words.replace(' ', "-"))
}

/// What stands behind a label, out of paragraphs.
fn take(all: &mut Vec<String>, label: &str) -> Option<String> {
    let at = all.iter().position(|text| text.starts_with(label))?;
    Some(all.remove(at)[label.len()..].trim_start_matches(' ').trim_start_matches('\n').to_owned())
}

fn command(entry: &Entry) -> Page {
    let words = entry.names[0];
    let tree = latest::augment(words, (entry.tree)());
    let mut notes = paragraphs(&tree.get_after_help().map(ToString::to_string).unwrap_or_default());
    let (examples, exit) = (take(&mut notes, "Examples:"), take(&mut notes, "Exit code:"));

    let mut page = Page::new(&page_name(words), &about(entry));
    page.section("Synopsis");
    for (nth, line) in usage(entry, words, &tree).lines().enumerate() {
        if nth > 0 {
            page.line(".br");
        }
        let line = line.trim();
        let (name, rest) = line.split_at(line.find(" [").unwrap_or(format!("ctr {words}").len()));
        page.line(&format!("\\fB{}\\fR{}", escaped(name), escaped(rest)));
    }
    for name in &entry.names[1..] {
        page.line(".br");
        page.line(&format!("\\fBctr {}\\fR \\&...", escaped(name)));
    }
    page.section("Description");
    let long = tree.get_long_about().map(ToString::to_string);
    let mut description = long.map_or_else(|| vec![about(entry)], |text| paragraphs(&text));
    description.iter_mut().filter(|text| !text.ends_with(['.', ':'])).for_each(|text| text.push('.'));
    description.append(&mut notes);
    page.paragraphs(&description);
    options(&mut page, help::dressed(entry, words));
    page.section("Exit status");
    page.paragraphs(&[exit.unwrap_or_else(|| {
        "0 when all was done; 1 when it was not, or not for each of the objects named; 125 when the flags are wrong.".into()
    })]);
    page.section("Examples");
    page.paragraphs(&[examples.unwrap_or_default()]);
    let group = words.split_once(' ').map(|(group, _)| group);
    let mut see = vec!["ctr".to_owned()];
    if let Some(group) = group {
        see.push(page_name(group));
        let others = members(group).into_iter().map(|(_, other)| page_name(other.names[0]));
        see.extend(others.filter(|other| *other != page_name(words)));
    } else {
        let groups = entry.names.iter().filter_map(|name| name.split_once(' ')).map(|(group, _)| page_name(group));
        see.extend(groups);
        see.dedup();
    }
    page.see_also(&see);
    page
}

/// All flags, under their headings and by name.
fn options(page: &mut Page, mut tree: Command) {
    tree.build();
    let shown = |arg: &&Arg| !arg.is_positional() && !arg.is_hide_set();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in tree.get_arguments().filter(shown) {
        let heading = arg.get_help_heading().filter(|heading| *heading != "Options");
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    headings.sort_by_key(Option::is_some);
    page.section("Options");
    for heading in headings {
        if let Some(heading) = heading {
            page.line(&format!(".SS \"{heading}\""));
        }
        let own = |arg: &&Arg| arg.get_help_heading().filter(|own| *own != "Options") == heading;
        let mut all: Vec<&Arg> = tree.get_arguments().filter(shown).filter(own).collect();
        all.sort_by_key(|arg| arg.get_long().unwrap_or_default().to_owned());
        for arg in all {
            flag(page, arg);
        }
    }
}

fn flag(page: &mut Page, arg: &Arg) {
    let bold = |flag: String| format!("\\fB{}\\fR", escaped(&flag));
    let shorts = arg.get_short_and_visible_aliases().unwrap_or_default().into_iter().map(|c| bold(format!("-{c}")));
    let longs = arg.get_long_and_visible_aliases().unwrap_or_default().into_iter().map(|l| bold(format!("--{l}")));
    let mut head = shorts.chain(longs).collect::<Vec<_>>().join(", ");
    if matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) {
        let name = arg.get_value_names().and_then(|names| names.first()).map(|name| escaped(name)).unwrap_or_default();
        let value = format!("\\fI{name}\\fR");
        let value = if arg.is_require_equals_set() { format!("[={value}]") } else { format!(" {value}") };
        head.push_str(&value);
    }
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let default = arg.get_default_values().first().filter(|_| !arg.is_hide_default_value_set());
    let default = default.and_then(|value| value.to_str()).filter(|_| arg.get_action().takes_values());
    let ends = if help.ends_with(['.', '…']) { "" } else { "." };
    let default = default.map(|value| format!(" Default: {value}.")).unwrap_or_default();
    page.item(&head, &format!("{}{ends}{default}", help.replace('\n', " ")));
}

fn group(group: &str, what: &str) -> Page {
    let name = page_name(group);
    let mut page = Page::new(&name, what);
    page.section("Synopsis");
    page.line(&format!("\\fBctr {group}\\fR COMMAND"));
    page.section("Commands");
    let members = members(group);
    let commands: Vec<_> = members.iter().map(|(_, entry)| (page_name(entry.names[0]), about(entry))).collect();
    for ((word, _), (page_name, about)) in members.iter().zip(&commands) {
        page.item(&format!("\\fBctr {group} {}\\fR", escaped(word)), &format!("{about}: see {page_name}(1)."));
    }
    page.see_also(&["ctr".to_owned()]);
    page
}

fn all() -> Page {
    let mut page = Page::new("ctr", super::ABOUT);
    page.section("Synopsis");
    page.line("\\fBctr\\fR [OPTIONS] COMMAND");
    page.section("Description");
    page.paragraphs(&paragraphs(front::DESCRIPTION));
    page.section("Options");
    options_of_all(&mut page);
    for (heading, commands) in chapters() {
        page.section(heading);
        let named: Vec<_> = commands.into_iter().map(|(name, about)| (page_name(name), about)).collect();
        page.commands(&named);
    }
    for (title, table) in [("Exit status", front::EXIT), ("Environment", front::ENVIRONMENT), ("Files", front::FILES)] {
        page.section(title);
        for (head, body) in table {
            page.item(&format!("\\fB{}\\fR", escaped(head)), body);
        }
    }
    page.section("Examples");
    page.verbatim(front::EXAMPLES.lines());
    page.see_also(&GROUPS.iter().map(|(name, _)| page_name(name)).collect::<Vec<_>>());
    page
}

fn options_of_all(page: &mut Page) {
    let mut root = skeleton();
    root.build();
    for arg in root.get_opts() {
        flag(page, arg);
    }
    page.item("\\fB\\-v\\fR, \\fB\\-\\-version\\fR", "Print the version.");
}

/// All of `man/`: names of files and what they hold.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::from([("ctr.1".to_owned(), all().0)]);
    for (name, about) in GROUPS {
        pages.insert(format!("{}.1", page_name(name)), group(name, about).0);
    }
    for entry in COMMANDS {
        let own = page_name(entry.names[0]);
        pages.insert(format!("{own}.1"), command(entry).0);
        for name in &entry.names[1..] {
            pages.insert(format!("{}.1", page_name(name)), format!(".so man1/{own}.1\n"));
        }
    }
    pages
}

#[test]
fn man_pages_are_what_the_commands_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let wanted = pages();
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    for file in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        there.insert(file.file_name().to_string_lossy().into_owned(), text);
    }
    if std::env::var_os("CTR_BLESS").is_some() {
        std::fs::create_dir_all(&dir).expect("man/ can be made");
        for (name, text) in wanted.iter().filter(|(name, text)| there.get(*name) != Some(text)) {
            std::fs::write(dir.join(name), text).expect("man/ can be written");
        }
        for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
            std::fs::remove_file(dir.join(name)).expect("man/ can be written");
        }
        return;
    }
    let names = wanted.keys().chain(there.keys()).filter(|name| wanted.get(*name) != there.get(*name));
    let stale: BTreeSet<&str> = names.map(String::as_str).collect();
    assert!(stale.is_empty(), "stale in man/: {stale:?}; type: {BLESS}");
}

#[test]
fn roff_obeys_nothing_of_a_text() {
    assert_eq!(escaped("a\\b--c 'd' \"e\" …"), "a\\eb\\-\\-c \\(aqd\\(aq \\(dqe\\(dq \\[u2026]");
    let mut page = Page(String::new());
    page.text(".so x");
    page.text("'so x");
    assert_eq!(page.0, "\\&.so x\n\\(aqso x\n");
}
