//! How pulls and pushes show that they get on: a line for each layer on a terminal, with a bar while it
//! is on its way, and how much of it is unpacked; a line for each event elsewhere, and on a terminal too
//! narrow for a bar.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::Mutex;

use indicatif::{DecimalBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::units;
use crate::image::pull::Report;
use crate::image::push;
use crate::sys::terminal;

/// Columns that a layer's line needs: fewer, and lines are not drawn over but written one below another.
const NARROW: u16 = 60;
const DOWNLOADING: &str =
    "{prefix}: Downloading [{wide_bar:.cyan}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}{msg}";
const PUSHING: &str =
    "{prefix}: Pushing [{wide_bar:.cyan}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
/// Where there is nothing to measure: a word.
const WORD: &str = "{prefix}: {wide_msg}";

/// Where lines go. Bars always go to standard error, which programs do not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// The report of a pull that fits where it is shown.
#[must_use]
pub fn report(stream: Stream, quiet: bool) -> Box<dyn Report> {
    if quiet {
        Box::new(Silence)
    } else if is_terminal(stream) {
        Box::new(Bars::new())
    } else {
        Box::new(Lines(stream))
    }
}

/// The same of a push.
#[must_use]
pub fn push(stream: Stream, quiet: bool) -> Box<dyn push::Report> {
    if quiet {
        Box::new(Silence)
    } else if is_terminal(stream) {
        Box::new(Bars::new())
    } else {
        Box::new(Lines(stream))
    }
}

fn is_terminal(stream: Stream) -> bool {
    let terminal = match stream {
        Stream::Out => std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
        Stream::Err => std::io::stderr().is_terminal(),
    };
    terminal && terminal::size(std::io::stderr().as_fd()).is_none_or(is_wide)
}

/// Nobody says how large some terminals are.
fn is_wide((_, columns): (u16, u16)) -> bool {
    columns == 0 || columns >= NARROW
}

struct Silence;

impl Report for Silence {
    fn begin(&self, _: &str, _: u64) {}
    fn exists(&self, _: &str) {}
    fn bytes(&self, _: &str, _: u64) {}
    fn unpacked(&self, _: &str, _: u64) {}
    fn reused(&self, _: &str, _: u64, _: u64) {}
    fn again(&self, _: &str) {}
    fn complete(&self, _: &str) {}
}

/// Docker's lines for what is no terminal.
struct Lines(Stream);

impl Lines {
    fn line(&self, layer: &str, what: &str) {
        match self.0 {
            Stream::Out => super::print(&format!("{layer}: {what}\n")),
            Stream::Err => super::say(&format!("{layer}: {what}")),
        }
    }
}

impl Report for Lines {
    fn begin(&self, layer: &str, _: u64) {
        self.line(layer, "Pulling fs layer");
    }
    fn exists(&self, layer: &str) {
        self.line(layer, "Already exists");
    }
    fn bytes(&self, _: &str, _: u64) {}
    fn unpacked(&self, _: &str, _: u64) {}
    fn reused(&self, layer: &str, bytes: u64, of: u64) {
        self.line(layer, &format!("Reusing {} of {}", units::size(bytes), units::size(of)));
    }
    fn again(&self, layer: &str) {
        self.line(layer, "Retrying from the beginning");
    }
    fn complete(&self, layer: &str) {
        self.line(layer, "Pull complete");
    }
}

/// A line for each layer; `console`, which indicatif draws with, leaves colours out under NO_COLOR.
struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<String, Layer>>,
}

struct Layer {
    bar: ProgressBar,
    unpacked: u64,
    /// Bytes of it that were here, and all.
    reused: Option<(u64, u64)>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For its turn, or for another process that has the layer in work.
    Waiting,
    Downloading,
    /// All has come; what is left is to be unpacked.
    Extracting,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { all, layers: Mutex::new(HashMap::new()) }
    }

    fn with(&self, layer: &str, size: u64, change: impl FnOnce(&mut Layer)) {
        let Ok(mut layers) = self.layers.lock() else { return };
        if !layers.contains_key(layer) {
            let bar = self.all.add(ProgressBar::new(size).with_prefix(layer.to_owned()));
            bar.set_style(style(WORD));
            bar.set_message("Waiting");
            let new = Layer { bar, unpacked: 0, reused: None, phase: Phase::Waiting };
            layers.insert(layer.to_owned(), new);
        }
        if let Some(layer) = layers.get_mut(layer) {
            change(layer);
        }
    }

    fn end(&self, layer: &str, what: impl Into<Cow<'static, str>>) {
        self.with(layer, 0, |layer| {
            layer.bar.set_style(style(WORD));
            layer.bar.finish_with_message(what);
        });
    }
}

impl Layer {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        match phase {
            Phase::Waiting => {}
            Phase::Downloading => {
                self.bar.set_style(style(DOWNLOADING));
                // The speed counts from now, not from when it was queued.
                self.bar.reset();
            }
            Phase::Extracting => self.bar.set_style(style("{prefix}: Extracting{wide_msg}")),
        }
        self.told();
    }

    /// What is unpacked, behind the rest.
    fn told(&self) {
        if self.phase != Phase::Waiting {
            self.bar.set_message(match self.unpacked {
                0 => String::new(),
                bytes => format!(" {} unpacked", DecimalBytes(bytes)),
            });
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are right; a bar without one is still a bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Report for Bars {
    fn begin(&self, layer: &str, size: u64) {
        self.with(layer, size, |layer| layer.bar.tick());
    }
    fn exists(&self, layer: &str) {
        self.end(layer, "Already exists");
    }
    fn bytes(&self, layer: &str, more: u64) {
        self.with(layer, 0, |layer| {
            if layer.phase == Phase::Waiting {
                layer.enter(Phase::Downloading);
            }
            layer.bar.inc(more);
            if layer.phase == Phase::Downloading && Some(layer.bar.position()) == layer.bar.length() {
                layer.enter(Phase::Extracting);
            }
        });
    }
    fn unpacked(&self, layer: &str, more: u64) {
        self.with(layer, 0, |layer| {
            layer.unpacked += more;
            layer.told();
        });
    }
    fn reused(&self, layer: &str, bytes: u64, of: u64) {
        self.with(layer, 0, |layer| {
            layer.reused = Some((bytes, of));
        });
    }
    fn again(&self, layer: &str) {
        self.with(layer, 0, |layer| {
            layer.unpacked = 0;
            layer.reused = None;
            layer.enter(Phase::Downloading);
        });
    }
    fn complete(&self, layer: &str) {
        let mut reused = None;
        self.with(layer, 0, |layer| reused = layer.reused);
        match reused {
            Some((bytes, of)) => {
                let parts = format!("Pull complete, {} of {} reused", units::size(bytes), units::size(of));
                self.end(layer, parts);
            }
            None => self.end(layer, "Pull complete"),
        }
    }
}

impl push::Report for Silence {
    fn prepare(&self, _: &str) {}
    fn exists(&self, _: &str) {}
    fn mounted(&self, _: &str, _: &str) {}
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn sent(&self, _: &str, _: u64) {}
    fn complete(&self, _: &str) {}
}

impl push::Report for Lines {
    fn prepare(&self, layer: &str) {
        self.line(layer, "Preparing");
    }
    fn exists(&self, layer: &str) {
        self.line(layer, "Layer already exists");
    }
    fn mounted(&self, layer: &str, from: &str) {
        self.line(layer, &format!("Mounted from {from}"));
    }
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn sent(&self, _: &str, _: u64) {}
    fn complete(&self, layer: &str) {
        self.line(layer, "Pushed");
    }
}

impl push::Report for Bars {
    fn prepare(&self, layer: &str) {
        self.with(layer, 0, |layer| layer.bar.set_message("Preparing"));
    }
    fn exists(&self, layer: &str) {
        self.end(layer, "Layer already exists");
    }
    fn mounted(&self, layer: &str, from: &str) {
        self.end(layer, format!("Mounted from {from}"));
    }
    fn begin(&self, layer: &str, size: Option<u64>) {
        self.with(layer, 0, |Layer { bar, .. }| match size {
            Some(size) => {
                bar.set_length(size);
                bar.set_style(style(PUSHING));
            }
            // What is compressed on the way has no length yet.
            None => bar.set_style(style("{prefix}: Pushing {decimal_bytes} {decimal_bytes_per_sec}")),
        });
    }
    fn sent(&self, layer: &str, bytes: u64) {
        self.with(layer, 0, |layer| layer.bar.set_position(bytes));
    }
    fn complete(&self, layer: &str) {
        self.end(layer, "Pushed");
    }
}
