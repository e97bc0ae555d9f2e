//! A client that reads the log as it grows.
//!
//! It reads the files itself; the monitor, which alone writes and rotates them, hands it each one, in
//! their order and already open. So a follower neither loses nor repeats a line, however fast the
//! files are rotated and removed. As other guests do, one that lags by [`LAG`] files holds the
//! container back until it has taken another one, but never for longer than [`PATIENCE`]: whoever stands
//! still is passed over, is told so, and keeps no more files alive than that.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::monitor::client::PATIENCE;
use crate::monitor::protocol::Message;
use crate::sys::seqpacket;

/// Files that one follower may lag by. One piece of output, as [`Log::piece`] bounds it, begins no more
/// than twenty.
///
/// [`Log::piece`]: crate::monitor::log::Log::piece
const LAG: usize = 24;

/// Files that are kept for one follower.
const MOST: usize = 64;

/// Files that are under way, which the follower has not taken yet.
const UNDER_WAY: u32 = 8;

#[derive(Debug)]
pub struct Follower {
    pub number: u64,
    socket: OwnedFd,
    waiting: VecDeque<Word>,
    under_way: u32,
    /// Since when it has held the container back, without taking anything.
    held_since: Option<Instant>,
    /// Files that were dropped since it was last told so.
    missed: u64,
    gone: bool,
}

/// All of a container's.
#[derive(Debug, Default)]
pub struct Followers(Vec<Follower>);

impl Followers {
    pub fn add(&mut self, follower: Follower) {
        self.0.push(follower);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Follower> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One said something, or left.
    pub fn listen(&mut self, number: u64) {
        if let Some(follower) = self.0.iter_mut().find(|f| f.number == number) {
            follower.listen();
        }
    }

    /// Removes those that left. Returns whether there were any.
    pub fn part(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|f| !f.gone);
        self.0.len() < before
    }

    /// Each gets the files that the log began.
    pub fn hand_out(&mut self, files: &[File]) {
        for file in files {
            for follower in &mut self.0 {
                follower.add(file);
            }
        }
    }

    /// Whether no more may be logged because of one.
    pub fn hold_back(&mut self, now: Instant) -> bool {
        // Each is asked: it is what ends their patience.
        self.0.iter_mut().map(|f| f.lags(LAG, now)).filter(|&lags| lags).count() > 0
    }

    /// When [`Followers::hold_back`] may answer otherwise though nobody said anything.
    pub fn patience_ends(&self, now: Instant) -> Option<Instant> {
        self.0.iter().filter_map(|f| f.patience_ends(now)).min()
    }

    /// Waits until nobody holds the log back: for who has no loop to wait in.
    pub fn await_room(&mut self) {
        self.wait(LAG);
    }

    /// Nothing will be added: all that is left goes on its way, and the connections end.
    pub fn farewell(&mut self) {
        self.wait(0);
        for mut follower in self.0.drain(..) {
            follower.send(true);
        }
    }

    fn wait(&mut self, most: usize) {
        loop {
            let now = Instant::now();
            let mut lag = false;
            for follower in &mut self.0 {
                lag |= follower.lags(most, now);
            }
            let Some(until) = self.patience_ends(now).filter(|_| lag) else { return };
            let mut polls: Vec<_> = self.0.iter().map(|f| PollFd::new(f.socket(), PollFlags::POLLIN)).collect();
            let left = until.saturating_duration_since(now) + Duration::from_millis(1);
            if poll(&mut polls, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))
                .is_err_and(|e| e != Errno::EINTR)
            {
                return;
            }
            for follower in &mut self.0 {
                follower.listen();
            }
            self.part();
        }
    }
}

#[derive(Debug)]
enum Word {
    File(File, bool),
    Done,
}

impl Follower {
    /// `files`: those that are there, the oldest first, and whether each is compressed.
    pub fn new(number: u64, socket: OwnedFd, files: Vec<(File, bool)>) -> Self {
        let mut waiting: VecDeque<_> =
            files.into_iter().map(|(file, compressed)| Word::File(file, compressed)).collect();
        waiting.push_back(Word::Done);
        let mut follower = Self { number, socket, waiting, under_way: 0, held_since: None, missed: 0, gone: false };
        follower.send(false);
        follower
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether it is waited for, since more than `most` files wait for it.
    fn lags(&mut self, most: usize, now: Instant) -> bool {
        if self.gone || self.waiting.len() <= most {
            return false;
        }
        now.duration_since(*self.held_since.get_or_insert(now)) < PATIENCE
    }

    /// When [`Follower::lags`] will answer otherwise.
    fn patience_ends(&self, now: Instant) -> Option<Instant> {
        self.held_since.map(|since| since + PATIENCE).filter(|ends| *ends > now)
    }

    /// A file that was begun.
    fn add(&mut self, file: &File) {
        if self.waiting.len() >= MOST {
            // Of those that it has not been given, the oldest; what it was given it has.
            self.waiting.pop_front();
            self.missed += 1;
        }
        // Without a descriptor to spare it cannot be told; the next one may be.
        match file.try_clone() {
            Ok(file) => self.waiting.push_back(Word::File(file, false)),
            Err(_) => self.missed += 1,
        }
        self.send(false);
    }

    /// It said something, or left.
    fn listen(&mut self) {
        let mut packet = [0; 64];
        match seqpacket::receive(self.socket(), &mut packet, false) {
            Ok((length @ 1.., _)) => {
                if let Some(Message::Taken { count, .. }) = Message::parse(&packet[..length]) {
                    self.held_since = None;
                    self.under_way = self.under_way.saturating_sub(count);
                    self.send(false);
                }
            }
            Err(Errno::EAGAIN) => {}
            _ => self.gone = true,
        }
    }

    fn send(&mut self, all: bool) {
        while !self.gone && (all || self.under_way < UNDER_WAY) {
            if self.missed > 0 && !self.waiting.is_empty() {
                let text = format!("{} files of the log were rotated away before this reader got to them", self.missed);
                self.missed = 0;
                let _ = Message::Notice(&text).send_with(self.socket(), &[], false);
            }
            let sent = match self.waiting.front() {
                None => return,
                Some(Word::Done) => Message::Done.send_with(self.socket(), &[], false),
                Some(Word::File(file, compressed)) => {
                    self.under_way += 1;
                    Message::LogFile { compressed: *compressed }.send_with(self.socket(), &[file.as_fd()], false)
                }
            };
            match sent {
                Ok(()) => drop(self.waiting.pop_front()),
                // Never full with so few under way; at the end what does not fit is not waited for.
                Err(_) => self.gone = true,
            }
        }
    }
}
