//! The container's bytes: from its output to the log and the clients, and from the clients to its
//! standard input.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::read;

use super::Relay;
use crate::monitor::input::Wrote;
use crate::monitor::protocol::{CHUNK, Message, Stream};

/// Most bytes of a stream that are read when the container has ended. What it wrote fits a pipe;
/// only a process that outlived it, outside of its pid namespace, can write on and on.
const REST: usize = 1 << 20;

/// Most bytes that move from pipe to pipe at once: as much as one can hold.
const PAGES: usize = 1 << 20;

impl Relay {
    /// After [`Relay::run`]: all that the container wrote goes into the log and on its way to the
    /// clients.
    pub fn drain(&mut self) {
        for client in &mut self.clients {
            client.gather();
        }
        for stream in [Stream::Output, Stream::Error] {
            let mut rest = 0;
            while rest < REST {
                match self.forward(stream) {
                    0 => break,
                    length => rest += length,
                }
                self.followers.await_room();
            }
        }
        self.log.finish();
        self.hand_out_files();
        self.followers.farewell();
        for session in &mut self.sessions {
            let client = self.clients.iter_mut().find(|c| c.number == session.client);
            session.container_ended(client);
        }
        self.sessions.clear();
    }

    /// Passes one piece of output on to the log and the clients. Returns its length; 0 when there is
    /// none for now or for ever, or no room for it.
    pub(super) fn forward(&mut self, stream: Stream) -> usize {
        let end = if stream == Stream::Error { &mut self.error } else { &mut self.output };
        let Some(fd) = end else { return 0 };
        let mut most = self.log.piece().min(CHUNK);
        let mut served = None;
        if stream == Stream::Output
            && let Some(at) = self.clients.iter_mut().position(|c| c.pipe().is_some())
        {
            let others = self.clients.iter().enumerate().any(|(n, c)| n != at && c.has(stream));
            let leave = others || self.log.wants_output();
            let pipe = self.clients[at].pipe();
            match pipe.map(|pipe| pipe.take(fd.as_fd(), if leave { most } else { PAGES }, leave)) {
                Some(Ok(0)) => {
                    *end = None;
                    return 0;
                }
                Some(Ok(length)) if !leave => return length,
                // The same bytes again, for the others.
                Some(Ok(length)) => (most, served) = (length, Some(self.clients[at].number)),
                Some(Err(Errno::EAGAIN)) => return 0,
                _ => self.clients[at].lose_pipe(),
            }
        }
        let length = match read(&*fd, &mut self.buffer[..most]) {
            Ok(length) if length > 0 => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return 0,
            // Nobody has the other side open. EIO is a terminal's way of saying so.
            _ => {
                *end = None;
                return 0;
            }
        };
        let bytes = &self.buffer[..length];
        let problem = self.log.write(stream, bytes);
        for client in &mut self.clients {
            if served != Some(client.number) {
                client.output(stream, bytes);
            }
            if let Some(problem) = &problem {
                client.send(&Message::Notice(problem));
            }
        }
        self.hand_out_files();
        length
    }

    /// Followers get the files that the log began.
    pub(super) fn hand_out_files(&mut self) {
        if !self.followers.is_empty() {
            self.followers.hand_out(&self.log.begun());
        }
    }

    /// Writes to the container's standard input.
    pub(super) fn feed(&mut self) {
        match self.input.write() {
            Wrote::Bytes(number, count) => {
                if let Some(client) = self.clients.iter_mut().find(|c| c.number == number) {
                    client.send(&Message::Taken { stream: Stream::Input, count });
                }
            }
            Wrote::Blocked => {}
            Wrote::Ended => {
                for client in self.clients.iter_mut().filter(|c| c.has(Stream::Input)) {
                    client.send(&Message::InputEnd);
                }
            }
        }
    }
}
