//! The uplink against the kernel: in a user namespace and network namespaces of its own, which play
//! the host, a second machine, the namespace of the bridges and a container. A program without the
//! usual harness, because the uplink is started by executing oneself, and a user namespace wants a
//! process of one thread.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod bed;
mod cases;
mod serve;

use std::process::ExitCode;

use ctr::network::uplink;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.first().and_then(|name| name.to_str()) == Some(uplink::NAME) {
        return uplink::run(args);
    }
    let words: Vec<String> = args.into_iter().skip(1).map(|word| word.into_string().unwrap()).collect();
    if words.first().is_some_and(|word| word == "serve") {
        return serve::run(&words[1..]);
    }
    if let Err(e) = bed::enter() {
        // CI sets this, so that a check that cannot run is seen.
        if std::env::var_os("CTR_MUST_RUN").is_some() {
            eprintln!("no namespaces: {e}");
            return ExitCode::FAILURE;
        }
        println!("skipped: no namespaces: {e}");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, case) in cases::ALL {
        // Words that filter, and none of the usual harness's options.
        let filters: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
        if !filters.is_empty() && !filters.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let outcome = std::panic::catch_unwind(|| {
            let bed = bed::Bed::new();
            case(&bed);
            bed.is_clean();
        });
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(outcome.is_err());
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
