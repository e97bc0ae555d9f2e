//! How pulls and pushes show that they get on: bars on a terminal, a line for each event elsewhere.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::pull::Report;
use crate::image::push;

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
        Box::new(Bars::new(
            "{prefix}: Downloading [{wide_bar:.cyan}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
        ))
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
        Box::new(Bars::new(
            "{prefix}: Pushing [{wide_bar:.cyan}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
        ))
    } else {
        Box::new(Lines(stream))
    }
}

fn is_terminal(stream: Stream) -> bool {
    match stream {
        Stream::Out => std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
        Stream::Err => std::io::stderr().is_terminal(),
    }
}

struct Silence;

impl Report for Silence {
    fn begin(&self, _: &str, _: u64) {}
    fn exists(&self, _: &str) {}
    fn bytes(&self, _: &str, _: u64) {}
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
    fn complete(&self, layer: &str) {
        self.line(layer, "Pull complete");
    }
}

/// A bar for each layer; `console`, which indicatif draws with, leaves colours out under NO_COLOR.
struct Bars {
    /// What a bar looks like.
    form: &'static str,
    all: MultiProgress,
    layers: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn new(form: &'static str) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { form, all, layers: Mutex::new(HashMap::new()) }
    }

    fn bar(&self, layer: &str, size: u64) -> ProgressBar {
        let Ok(mut bars) = self.layers.lock() else { return ProgressBar::hidden() };
        bars.entry(layer.to_owned())
            .or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new(size).with_prefix(layer.to_owned()));
                bar.set_style(style(self.form));
                bar
            })
            .clone()
    }

    fn end(&self, layer: &str, what: impl Into<Cow<'static, str>>) {
        let bar = self.bar(layer, 0);
        bar.set_style(style("{prefix}: {msg}"));
        bar.finish_with_message(what);
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are right; a bar without one is still a bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Report for Bars {
    fn begin(&self, layer: &str, size: u64) {
        self.bar(layer, size).tick();
    }
    fn exists(&self, layer: &str) {
        self.end(layer, "Already exists");
    }
    fn bytes(&self, layer: &str, more: u64) {
        self.bar(layer, 0).inc(more);
    }
    fn complete(&self, layer: &str) {
        self.end(layer, "Pull complete");
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
        let bar = self.bar(layer, 0);
        bar.set_style(style("{prefix}: {msg}"));
        bar.set_message("Preparing");
    }
    fn exists(&self, layer: &str) {
        self.end(layer, "Layer already exists");
    }
    fn mounted(&self, layer: &str, from: &str) {
        self.end(layer, format!("Mounted from {from}"));
    }
    fn begin(&self, layer: &str, size: Option<u64>) {
        let bar = self.bar(layer, 0);
        match size {
            Some(size) => {
                bar.set_length(size);
                bar.set_style(style(self.form));
            }
            // What is compressed on the way has no length yet.
            None => bar.set_style(style("{prefix}: Pushing {decimal_bytes} {decimal_bytes_per_sec}")),
        }
    }
    fn sent(&self, layer: &str, bytes: u64) {
        self.bar(layer, 0).set_position(bytes);
    }
    fn complete(&self, layer: &str) {
        self.end(layer, "Pushed");
    }
}
