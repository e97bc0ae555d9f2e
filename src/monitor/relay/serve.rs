//! The clients: who comes, what each says, who is gone.

use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::{FULL, Relay};
use crate::monitor::client::Role;
use crate::monitor::exec::Session;
use crate::monitor::failed;
use crate::monitor::follow::Follower;
use crate::monitor::protocol::{self, Message, Stream};
use crate::sys::{pidfd, seqpacket, terminal};

impl Relay {
    pub(super) fn welcome(&mut self) {
        let Some(listener) = &self.listener else { return };
        match seqpacket::accept(listener.as_fd()) {
            Ok(Some(socket)) => self.join(socket, Role::New, None),
            Ok(None) => {}
            // Out of descriptors or of memory. Whoever knocks waits; some may be free again then.
            Err(_) => self.full_until = Some(Instant::now() + FULL),
        }
    }

    /// Does what a client says.
    pub(super) fn serve(&mut self, number: u64, events: PollFlags) {
        let Some(at) = self.clients.iter().position(|c| c.number == number) else { return };
        if events.contains(PollFlags::POLLOUT) {
            self.clients[at].flush();
        }
        if !events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            return;
        }
        let (length, fds) = match seqpacket::receive(self.clients[at].socket(), &mut self.buffer, false) {
            Ok((0, _)) => {
                self.clients[at].gone = true;
                return;
            }
            Ok(received) => received,
            Err(Errno::EAGAIN) => return,
            Err(_) => {
                self.clients[at].gone = true;
                return;
            }
        };
        let client = &mut self.clients[at];
        match Message::parse(&self.buffer[..length]) {
            Some(Message::Attach { version: protocol::VERSION, streams }) if client.role == Role::New => {
                client.role = Role::Guest(streams);
                if streams.stdin && self.input.has_ended() {
                    client.send(&Message::InputEnd);
                }
            }
            Some(Message::Exec { version: protocol::VERSION, request }) if client.role == Role::New => {
                client.role = Role::Exec;
                match Session::start(number, request, fds, &self.further) {
                    Ok(session) => self.sessions.push(session),
                    Err(e) => {
                        client.send(&Message::Failed(&failed(&e)));
                        client.gone = true;
                    }
                }
            }
            Some(Message::Change { version: protocol::VERSION, request }) if client.role == Role::New => {
                let done = match &mut self.network {
                    Some(network) => network.change(request),
                    None => (self.further.network)(request).map(|network| self.network = Some(network)),
                };
                match done {
                    Ok(()) => client.send(&Message::Done),
                    Err(e) => client.send(&Message::Failed(&failed(&e))),
                }
                client.gone = true;
            }
            Some(Message::Follow { version: protocol::VERSION }) if client.role == Role::New => {
                let client = self.clients.remove(at);
                match self.log.follow() {
                    Ok(files) => self.followers.add(Follower::new(number, client.into_socket(), files)),
                    // It sees the end of the connection.
                    Err(_) => drop(client),
                }
            }
            Some(Message::Attach { .. } | Message::Exec { .. } | Message::Change { .. } | Message::Follow { .. }) => {
                let e =
                    anyhow::anyhow!("the container was started by another version of ctr, which has to be restarted");
                client.send(&Message::Failed(&failed(&e)));
                client.gone = true;
            }
            Some(Message::Bytes { stream: Stream::Input, bytes }) if client.has(Stream::Input) => {
                self.input.push(number, bytes);
            }
            Some(Message::InputEnd) if client.has(Stream::Input) && self.stdin_once => self.input.close(),
            Some(Message::Taken { stream, count }) => client.taken(stream, count),
            Some(Message::Resize { rows, columns }) if client.role != Role::Exec => {
                if let Some(terminal) = &self.terminal {
                    // A size that the kernel refuses leaves the old one.
                    let _ = terminal::set_size(terminal.as_fd(), rows, columns);
                    let (height, width) = (rows.to_string(), columns.to_string());
                    (self.further.note)("resize", &[("height", &height), ("width", &width)]);
                }
            }
            Some(Message::Signal { number }) if client.role != Role::Exec => {
                (self.further.note)("kill", &[("signal", &number.to_string())]);
                // It may have ended in this moment.
                let _ = pidfd::signal(self.process.as_fd(), number);
            }
            Some(Message::Detach) if client.role == Role::Exec => {
                for session in self.sessions.iter_mut().filter(|s| s.client == number) {
                    session.forsake();
                }
            }
            // Of a later version, or for something that this container has not: no harm.
            _ => {}
        }
    }

    /// Removes the clients that are gone.
    pub(super) fn part(&mut self) {
        if self.followers.part() {
            self.full_until = None;
            if self.followers.is_empty() {
                self.log.unfollow();
            }
        }
        if self.clients.iter().all(|c| !c.gone) {
            return;
        }
        if self.stdin_once && self.clients.iter().any(|c| c.gone && c.has(Stream::Input)) {
            self.input.close();
        }
        for client in self.clients.iter().filter(|c| c.gone && c.role == Role::Exec) {
            for session in self.sessions.iter_mut().filter(|s| s.client == client.number) {
                session.client_left();
            }
        }
        self.clients.retain(|c| !c.gone);
        self.full_until = None;
    }

    /// A further process has something to report.
    pub(super) fn attend(&mut self, number: u64) {
        let Some(at) = self.sessions.iter().position(|s| s.client == number) else { return };
        let client = self.clients.iter_mut().find(|c| c.number == number);
        if self.sessions[at].attend(client) {
            self.sessions.swap_remove(at);
        }
    }

    /// Reads what nobody wants, so that the process does not stop for want of a reader.
    pub(super) fn discard(&mut self, number: u64) {
        if let Some(session) = self.sessions.iter_mut().find(|s| s.client == number) {
            session.discard(&mut self.buffer);
        }
    }
}
