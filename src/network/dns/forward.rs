//! Questions over UDP on their way to a server and back.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use crate::network::dns::message::{self, LARGE, Query, Rcode, Verdict};
use crate::network::dns::servers::{Servers, Silence};
use crate::network::dns::sockets::{self, Sockets};
use crate::network::dns::{MOST_QUESTIONS, Resolver, Token};

/// Packets on a question's socket that are looked at before the loop has its turn again.
const STRAYS: usize = 16;

/// One that waits for its answer.
#[derive(Debug)]
pub struct Question {
    number: u64,
    client: SocketAddr,
    /// The client's number of it.
    id: u16,
    /// As it was sent.
    asked: Vec<u8>,
    socket: UdpSocket,
    tour: Tour,
    /// Then the next server is asked.
    pub until: Instant,
}

/// From server to server.
#[derive(Debug)]
pub struct Tour {
    /// Each with whether it is of the reserve.
    order: Vec<(SocketAddr, bool)>,
    attempts: usize,
    timeout: Duration,
    /// By then the client is told something.
    end: Instant,
    step: usize,
    /// Who was asked last, and when.
    asked: Option<(SocketAddr, Instant)>,
    /// What a server said that could not help: the answer if no other can.
    helpless: Option<Vec<u8>>,
}

impl Tour {
    pub fn new(servers: &Servers, turn: u64, silence: &mut Silence) -> Self {
        let now = Instant::now();
        Self {
            order: servers.order(usize::try_from(turn).unwrap_or(0), |server| silence.rank(server, now)),
            attempts: servers.attempts,
            timeout: servers.timeout,
            end: now + servers.patience,
            step: 0,
            asked: None,
            helpless: None,
        }
    }

    /// The next server to ask that `open` can reach, and how long to wait for it; `None`: there is no
    /// further one, or no time for it.
    pub fn next<T>(&mut self, mut open: impl FnMut(SocketAddr) -> io::Result<T>) -> Option<(T, Instant)> {
        while self.step < self.order.len() * self.attempts {
            let now = Instant::now();
            if now >= self.end {
                break;
            }
            let (server, is_reserve) = self.order[self.step % self.order.len()];
            self.step += 1;
            if self.helpless.is_some() && is_reserve {
                continue;
            }
            if let Ok(opened) = open(server) {
                self.asked = Some((server, now));
                return Some((opened, (now + self.timeout).min(self.end)));
            }
        }
        None
    }

    /// The server that was asked last said nothing in its time.
    pub fn was_unheard(&self, silence: &mut Silence) {
        if let Some((server, asked)) = self.asked {
            silence.unheard(server, asked, Instant::now());
        }
    }

    /// It said something.
    pub fn was_heard(&self, silence: &mut Silence) {
        if let Some((server, _)) = self.asked {
            silence.heard(server, Instant::now());
        }
    }

    /// A server said that it cannot help. Asking it once more would not change that.
    pub fn was_refused(&mut self, reply: Vec<u8>) {
        self.helpless = Some(reply);
        self.attempts = 1;
    }

    /// The answer when nobody can help, to `asked`.
    pub fn failed(self, asked: &[u8]) -> Option<Vec<u8>> {
        self.helpless.or_else(|| Some(Query::parse(asked).ok()?.refuse(Rcode::ServFail)))
    }
}

impl Question {
    pub fn descriptor(&self) -> (Token, BorrowedFd<'_>, PollFlags) {
        (Token::Question(self.number), self.socket.as_fd(), PollFlags::POLLIN)
    }

    /// Asks the next server.
    fn go_on(&mut self, sockets: &mut Sockets, from: sockets::From) -> bool {
        let asked = &self.asked;
        match self.tour.next(|server| send(sockets, server, from, asked)) {
            Some((socket, until)) => {
                (self.socket, self.until) = (socket, until);
                true
            }
            None => false,
        }
    }
}

fn send(sockets: &mut Sockets, server: SocketAddr, from: sockets::From, asked: &[u8]) -> io::Result<UdpSocket> {
    let socket = sockets.datagram(server, from)?;
    socket.send(asked)?;
    Ok(socket)
}

impl Resolver {
    /// Sends a question on: `packet` as the client put it, `asked` as servers are given it.
    pub(super) fn ask(&mut self, packet: &[u8], asked: Vec<u8>, client: SocketAddr) {
        let id = Query::parse(packet).map_or(0, |query| query.id());
        // A client that asks again because it waits: so do we.
        let is_same = |q: &Question| q.client == client && q.id == id && q.asked.get(2..) == asked.get(2..);
        if self.questions.iter().any(is_same) {
            return;
        }
        let servers = self.servers();
        let mut tour = Tour::new(&servers, self.count, &mut self.silence);
        let from = self.origin();
        let sent = if self.questions.len() < MOST_QUESTIONS {
            tour.next(|server| send(&mut self.sockets, server, from, &asked))
        } else {
            None
        };
        match sent {
            Some((socket, until)) => {
                let number = self.number();
                self.questions.push(Question { number, client, id, asked, socket, tour, until });
            }
            None => self.give_up(&asked, tour, id, client),
        }
    }

    /// A server answered, or an ICMP message came instead.
    pub(super) fn answered(&mut self, number: u64) {
        let Some(at) = self.questions.iter().position(|q| q.number == number) else { return };
        for _ in 0..STRAYS {
            let question = &mut self.questions[at];
            let length = match question.socket.recv(&mut self.buffer) {
                Ok(length) => length,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
                // Nobody listens there, or there is no way.
                Err(_) => return self.go_on(at),
            };
            let reply = &mut self.buffer[..length];
            match message::verdict(&question.asked, reply) {
                Verdict::Alien => {}
                Verdict::Helpless => {
                    question.tour.was_heard(&mut self.silence);
                    question.tour.was_refused(reply.to_vec());
                    return self.go_on(at);
                }
                Verdict::Good => {
                    question.tour.was_heard(&mut self.silence);
                    let question = self.questions.swap_remove(at);
                    return self.pass_on(&question, length);
                }
            }
        }
    }

    pub(super) fn expire_questions(&mut self, now: Instant) {
        let mut at = self.questions.len();
        // Backwards: what takes the place of one that is removed was looked at.
        while at > 0 {
            at -= 1;
            if self.questions[at].until <= now {
                self.questions[at].tour.was_unheard(&mut self.silence);
                self.go_on(at);
            }
        }
    }

    pub(super) fn origin(&self) -> sockets::From {
        if self.given.is_some() { sockets::From::Container } else { sockets::From::Host }
    }

    fn go_on(&mut self, at: usize) {
        let from = self.origin();
        if !self.questions[at].go_on(&mut self.sockets, from) {
            let question = self.questions.swap_remove(at);
            self.give_up(&question.asked, question.tour, question.id, question.client);
        }
    }

    fn give_up(&self, asked: &[u8], tour: Tour, id: u16, client: SocketAddr) {
        if let Some(reply) = tour.failed(asked) {
            self.send_back(asked, reply, id, client);
        }
    }

    /// What lies in the buffer is the answer.
    fn pass_on(&self, question: &Question, length: usize) {
        self.send_back(&question.asked, self.buffer[..length].to_vec(), question.id, question.client);
    }

    fn send_back(&self, asked: &[u8], mut reply: Vec<u8>, id: u16, client: SocketAddr) {
        let Ok(query) = Query::parse(asked) else { return };
        if reply.len() > query.limit().min(LARGE) {
            reply = query.truncated();
        }
        message::renumber(&mut reply, id);
        self.reply(&reply, client);
    }
}
