//! Jobs of one kind, several at once: the layers of a pull or a push.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;

use crate::error::Failure;

/// Does the jobs 0 to `count - 1`, at most `at_once` of them at a time; returns what they came to, in
/// their order. When one fails `stop` is set: no other is begun, and those that look at it end early.
///
/// # Errors
/// That of the job that failed first.
pub fn each<T: Send>(
    count: usize,
    at_once: usize,
    stop: &AtomicBool,
    job: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let next = AtomicUsize::new(0);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(result) = results.get(n) else { return };
            match job(n) {
                Ok(done) => {
                    if let Ok(mut result) = result.lock() {
                        *result = Some(done);
                    }
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    // The first failure is the cause; those behind it only stopped.
                    if let Ok(mut failure) = failure.lock() {
                        failure.get_or_insert(error);
                    }
                }
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..at_once.min(count) {
            threads.spawn(work);
        }
    });
    if let Some(error) = failure.into_inner().ok().flatten() {
        return Err(error);
    }
    let done: Option<Vec<T>> = results.into_iter().map(|result| result.into_inner().ok().flatten()).collect();
    done.ok_or_else(|| Failure::new("not all layers were done").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_failure_is_the_one() {
        let stop = AtomicBool::new(false);
        assert_eq!(each(5, 3, &stop, |n| Ok(n * 2)).unwrap(), [0, 2, 4, 6, 8]);
        assert!(each(0, 3, &stop, |_| Ok(())).unwrap().is_empty());
        let begun = AtomicUsize::new(0);
        let outcome: Result<Vec<()>> = each(100, 2, &stop, |n| {
            begun.fetch_add(1, Ordering::Relaxed);
            if n == 0 {
                anyhow::bail!("broke");
            }
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            anyhow::bail!("stopped")
        });
        assert_eq!(outcome.unwrap_err().to_string(), "broke");
        assert!(begun.into_inner() <= 2);
    }
}
