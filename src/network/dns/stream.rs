//! Questions over TCP (RFC 7766): each connection has one under way, further ones wait in its kernel
//! buffer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::network::dns::forward::Tour;
use crate::network::dns::message::{self, Query, Verdict};
use crate::network::dns::sockets::{self, Sockets};
use crate::network::dns::{FULL, Outcome, Resolver, Token};

/// Connections at the same time. A further one takes the place of the one that has been silent for
/// longest; where all have a question under way, it waits in the listener's queue.
pub const MOST_CLIENTS: usize = 16;

/// So long a connection may say nothing, or not fetch its answer.
const IDLE: Duration = Duration::from_secs(10);

/// A connection of the container's.
#[derive(Debug)]
pub struct Client {
    number: u64,
    stream: TcpStream,
    /// What there is of its next question, with the two bytes of its length.
    input: Vec<u8>,
    state: State,
    until: Instant,
}

#[derive(Debug)]
enum State {
    Reading,
    Asking(Box<Asking>),
    Writing(Outgoing),
}

/// Its question is with a server.
#[derive(Debug)]
struct Asking {
    server: TcpStream,
    /// The client's number of it.
    id: u16,
    asked: Vec<u8>,
    question: Outgoing,
    answer: Vec<u8>,
    tour: Tour,
    until: Instant,
}

/// A message with its length, and how much of it is written.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

/// How far a message has come.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Whole,
    Partly,
    Ended,
}

impl Outgoing {
    fn new(message: &[u8]) -> Self {
        // A message came with a length of two bytes, or was made to be no longer.
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        Self { bytes: [&length.to_be_bytes(), message].concat(), written: 0 }
    }

    fn write(&mut self, stream: &mut TcpStream) -> Progress {
        while self.written < self.bytes.len() {
            match stream.write(&self.bytes[self.written..]) {
                Ok(0) => return Progress::Ended,
                Ok(written) => self.written += written,
                Err(e) => return progress(&e),
            }
        }
        Progress::Whole
    }
}

/// Reads on until `into` holds a whole message, and no byte of the next one.
fn read(stream: &mut TcpStream, into: &mut Vec<u8>, buffer: &mut [u8]) -> Progress {
    loop {
        let wanted = into.first_chunk().map_or(2, |length| 2 + usize::from(u16::from_be_bytes(*length)));
        if into.len() >= 2 && into.len() == wanted {
            return Progress::Whole;
        }
        let room = buffer.len().min(wanted - into.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) => return Progress::Ended,
            Ok(length) => into.extend_from_slice(&buffer[..length]),
            Err(e) => return progress(&e),
        }
    }
}

fn progress(e: &io::Error) -> Progress {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Progress::Partly,
        _ => Progress::Ended,
    }
}

impl Client {
    pub fn descriptor(&self) -> (Token, BorrowedFd<'_>, PollFlags) {
        match &self.state {
            State::Reading => (Token::Client(self.number), self.stream.as_fd(), PollFlags::POLLIN),
            State::Writing(_) => (Token::Client(self.number), self.stream.as_fd(), PollFlags::POLLOUT),
            State::Asking(asking) => {
                let is_sent = asking.question.written == asking.question.bytes.len();
                let events = if is_sent { PollFlags::POLLIN } else { PollFlags::POLLOUT };
                (Token::Server(self.number), asking.server.as_fd(), events)
            }
        }
    }

    /// It has no question under way.
    fn is_silent(&self) -> bool {
        matches!(self.state, State::Reading)
    }

    pub fn until(&self) -> Instant {
        if let State::Asking(asking) = &self.state { asking.until } else { self.until }
    }

    /// Begins to write; [`Resolver::converse`] goes on.
    fn answer(&mut self, message: &[u8]) {
        self.until = Instant::now() + IDLE;
        self.state = State::Writing(Outgoing::new(message));
    }

    /// Asks the next server, or says that nobody can help.
    fn go_on(&mut self, sockets: &mut Sockets, from: sockets::From) {
        let State::Asking(asking) = &mut self.state else { return };
        if let Some((server, until)) = asking.tour.next(|server| sockets.stream(server, from)) {
            (asking.server, asking.until) = (server, until);
            asking.question.written = 0;
            asking.answer = Vec::new();
            return;
        }
        let State::Asking(asking) = std::mem::replace(&mut self.state, State::Reading) else { return };
        let mut reply = asking.tour.failed(&asking.asked).unwrap_or_default();
        message::renumber(&mut reply, asking.id);
        self.answer(&reply);
    }

    /// Talks to the server. False: it is of no use.
    fn consult(&mut self, buffer: &mut [u8]) -> bool {
        let State::Asking(asking) = &mut self.state else { return true };
        match asking.question.write(&mut asking.server) {
            Progress::Whole => {}
            Progress::Partly => return true,
            Progress::Ended => return false,
        }
        match read(&mut asking.server, &mut asking.answer, buffer) {
            Progress::Whole => {}
            Progress::Partly => return true,
            Progress::Ended => return false,
        }
        let mut reply = asking.answer.split_off(2);
        match message::verdict(&asking.asked, &reply) {
            // On a connection of one question, nothing else is to come.
            Verdict::Alien => false,
            Verdict::Helpless => {
                asking.tour.was_refused(reply);
                false
            }
            Verdict::Good => {
                message::renumber(&mut reply, asking.id);
                self.answer(&reply);
                true
            }
        }
    }
}

impl Resolver {
    /// Whether another connection can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.clients.len() < MOST_CLIENTS || self.clients.iter().any(Client::is_silent)
    }

    /// Closes the connection that has said nothing for longest, where there is no room otherwise.
    /// `false`: all are busy.
    fn make_room(&mut self) -> bool {
        while self.clients.len() >= MOST_CLIENTS {
            let silent = self.clients.iter().filter(|client| client.is_silent());
            let Some(number) = silent.min_by_key(|client| client.until).map(|client| client.number) else {
                return false;
            };
            // Its question may be there, unread.
            self.converse(number);
            self.clients.retain(|client| client.number != number || !client.is_silent());
        }
        true
    }

    /// Whether a connection waits to be accepted.
    fn is_awaited(&self) -> bool {
        let mut polls = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut polls, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    pub(super) fn accept(&mut self) {
        // Of a flood so many, before those that have asked are answered.
        for _ in 0..MOST_CLIENTS {
            // Nobody goes unless somebody waits.
            if self.clients.len() >= MOST_CLIENTS && !(self.is_awaited() && self.make_room()) {
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                    let number = self.number();
                    let until = Instant::now() + IDLE;
                    self.clients.push(Client { number, stream, input: Vec::new(), state: State::Reading, until });
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // It left before it was let in, or there is no descriptor for it.
                Err(_) => {
                    self.full_until = Some(Instant::now() + FULL);
                    return;
                }
            }
        }
    }

    /// A client sent something, or takes more.
    pub(super) fn converse(&mut self, number: u64) {
        let Some(at) = self.clients.iter().position(|c| c.number == number) else { return };
        let client = &mut self.clients[at];
        let progress = match &mut client.state {
            State::Writing(outgoing) => outgoing.write(&mut client.stream),
            State::Reading => read(&mut client.stream, &mut client.input, &mut self.buffer),
            State::Asking(_) => return,
        };
        match (progress, &client.state) {
            (Progress::Partly, _) => {}
            (Progress::Ended, _) => drop(self.clients.swap_remove(at)),
            (Progress::Whole, State::Reading) => self.listen_to(at),
            (Progress::Whole, _) => {
                client.until = Instant::now() + IDLE;
                client.state = State::Reading;
            }
        }
    }

    /// A client's question is whole.
    fn listen_to(&mut self, at: usize) {
        let input = std::mem::take(&mut self.clients[at].input);
        let packet = &input[2..];
        match self.consider(packet, Some(usize::from(u16::MAX))) {
            Outcome::Reply(reply) => {
                self.clients[at].answer(&reply);
                // As a rule there is room for it.
                let number = self.clients[at].number;
                self.converse(number);
            }
            Outcome::Nothing => drop(self.clients.swap_remove(at)),
            Outcome::Forward(asked) => {
                let id = Query::parse(packet).map_or(0, |query| query.id());
                let servers = self.servers();
                let mut tour = Tour::new(&servers, self.count, &mut self.silence);
                let from = self.origin();
                let client = &mut self.clients[at];
                if let Some((server, until)) = tour.next(|server| self.sockets.stream(server, from)) {
                    let question = Outgoing::new(&asked);
                    let asking = Asking { server, id, asked, question, answer: Vec::new(), tour, until };
                    client.state = State::Asking(Box::new(asking));
                } else {
                    let mut reply = tour.failed(&asked).unwrap_or_default();
                    message::renumber(&mut reply, id);
                    client.answer(&reply);
                }
            }
        }
    }

    /// A server takes a client's question, or answers it.
    pub(super) fn consult(&mut self, number: u64) {
        let from = self.origin();
        let Some(client) = self.clients.iter_mut().find(|c| c.number == number) else { return };
        if !client.consult(&mut self.buffer) {
            client.go_on(&mut self.sockets, from);
        }
    }

    pub(super) fn expire_clients(&mut self, now: Instant) {
        let from = self.origin();
        for client in self.clients.iter_mut().filter(|c| c.until() <= now) {
            if let State::Asking(asking) = &client.state {
                asking.tour.was_unheard(&mut self.silence);
            }
            client.go_on(&mut self.sockets, from);
        }
        // Those that wait for a server or an answer were given more time just now.
        self.clients.retain(|client| client.until() > now);
    }
}
