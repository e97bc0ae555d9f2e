//! How slowly a registry may answer before it counts as broken: a time limit for each read alone lets one
//! that sends a byte now and then go on for ever.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Over which time it is counted.
const WINDOW: Duration = Duration::from_secs(30);
/// Bytes that have to come in that time: a modem's tenth.
const LEAST: u64 = 30 << 10;

/// Reads what comes, while enough comes. Only the time is counted that was spent waiting for it.
pub struct Paced<R> {
    inner: R,
    window: Duration,
    waited: Duration,
    came: u64,
}

impl<R> Paced<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, window: WINDOW, waited: Duration::ZERO, came: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let n = self.inner.read(into)?;
        self.waited += begun.elapsed();
        self.came += n as u64;
        if self.waited >= self.window {
            if n > 0 && self.came < LEAST {
                let why = format!("only {} bytes came in {} s", self.came, self.waited.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many bytes at each read, after a pause.
    struct Drip(Duration, usize);

    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(self.0);
            Ok(self.1.min(into.len()))
        }
    }

    fn paced(inner: Drip) -> impl Read {
        Paced { window: Duration::from_millis(50), ..Paced::new(inner) }
    }

    #[test]
    fn an_endless_drip_ends() {
        let begun = Instant::now();
        let error = io::copy(&mut paced(Drip(Duration::from_millis(5), 1)), &mut io::sink()).expect_err("it ends");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_is_fast_enough_or_read_slowly_goes_on() {
        // Enough with each read, however long the machine makes a pause.
        let mut fast = paced(Drip(Duration::from_millis(5), 64 << 10));
        let mut buffer = vec![0; 64 << 10];
        for _ in 0..30 {
            assert_eq!(fast.read(&mut buffer).expect("enough comes"), buffer.len());
        }
        let mut unhurried = paced(Drip(Duration::ZERO, 1));
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(unhurried.read(&mut [0]).expect("the reader takes its time"), 1);
        }
    }
}
