//! Network namespaces: other machines, and the containers' own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::gettid;

/// A network namespace. It lives as long as this, a process or a socket in it does.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// A new one, in which only loopback is up.
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            Self::here()
        };
        std::thread::scope(|scope| scope.spawn(make).join().unwrap())
    }

    /// The one that this thread is in.
    pub fn here() -> Self {
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// The one that this process began in.
    pub fn of_this_process() -> Self {
        Self(File::open("/proc/self/ns/net").unwrap())
    }

    /// The one that a process is in.
    #[track_caller]
    pub fn of(pid: &str) -> Self {
        Self(File::open(format!("/proc/{pid}/ns/net")).unwrap_or_else(|e| panic!("the network of process {pid}: {e}")))
    }

    /// Runs `body` in it, on a thread of its own. What sockets it makes stay in the namespace.
    #[track_caller]
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let enter = !same(self, &Self::here());
        let run = || {
            if enter {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            }
            body()
        };
        match std::thread::scope(|scope| scope.spawn(run).join()) {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// `ip WORDS` there.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        self.inside(|| ip(words))
    }

    /// Lays a cable from the namespace of this thread, where its end is `ours`, to this one.
    pub fn cable(&self, ours: &str, theirs: &str) {
        std::thread::scope(|scope| {
            let (say, hear) = channel();
            let (done, wait) = channel::<()>();
            scope.spawn(move || {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                say.send(gettid()).unwrap();
                let _ = wait.recv();
            });
            // rtnetlink knows a namespace by a thread that is in it.
            ip(&format!("link add {ours} type veth peer name {theirs} netns {}", hear.recv().unwrap()));
            drop(done);
        });
    }

    /// A TCP server there that tells each client its address, a line, and ends the connection.
    #[track_caller]
    pub fn greets(&self, address: impl ToSocketAddrs + Send) -> Service {
        let listener = self.inside(|| TcpListener::bind(address).unwrap());
        Service::start(listener, |mut stream, peer| {
            use std::io::Write;
            let _ = writeln!(stream, "hello {}", peer.ip());
        })
    }

    /// A UDP server there that sends back what it is sent, with the client's address before it.
    #[track_caller]
    pub fn echoes(&self, address: impl ToSocketAddrs + Send) -> Echo {
        let socket = self.inside(|| UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let open = Arc::new(());
        let wanted = Arc::downgrade(&open);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while wanted.strong_count() > 0 {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                let reply = [format!("{} ", peer.ip()).as_bytes(), &buffer[..length]].concat();
                let _ = socket.send_to(&reply, peer);
            }
        });
        Echo(open)
    }

    /// What a TCP server says to a client there, to the end.
    #[allow(clippy::needless_pass_by_value, reason = "as std's functions take addresses")]
    pub fn hears(&self, address: impl ToSocketAddrs + Send) -> std::io::Result<String> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        self.inside(|| {
            use std::io::Read;
            let mut stream = TcpStream::connect_timeout(&addresses[0], Duration::from_secs(10))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// What a UDP server answers a client there; an error after a few tries of half a second.
    #[allow(clippy::needless_pass_by_value, reason = "as std's functions take addresses")]
    pub fn asks(&self, address: impl ToSocketAddrs + Send, text: &str) -> std::io::Result<String> {
        let address = address.to_socket_addrs()?.next().unwrap();
        self.inside(|| {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            let mut buffer = vec![0; 65536];
            let mut last = std::io::ErrorKind::TimedOut.into();
            for _ in 0..6 {
                socket.send(text.as_bytes())?;
                match socket.recv(&mut buffer) {
                    Ok(length) => return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned()),
                    Err(e) => last = e,
                }
            }
            Err(last)
        })
    }
}

/// A UDP server; it ends when this is dropped.
#[derive(Debug)]
pub struct Echo(#[allow(dead_code, reason = "it counts")] Arc<()>);

/// A TCP server; it ends when this is dropped.
#[derive(Debug)]
pub struct Service(TcpListener);

impl Service {
    pub fn start(listener: TcpListener, serve: fn(TcpStream, SocketAddr)) -> Self {
        let own = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok((stream, peer)) = own.accept() {
                std::thread::spawn(move || serve(stream, peer));
            }
        });
        Self(listener)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Wakes the thread that accepts.
        let _ = nix::sys::socket::shutdown(self.0.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

/// Carries connections to a port on this thread's loopback to the same port on the loopback of the
/// namespace that this process began in.
pub fn forward_to_process(port: u16) {
    if same(&Netns::here(), &Netns::of_this_process()) {
        return;
    }
    // Where it is taken, this was done before.
    let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) else { return };
    std::thread::spawn(move || {
        setns(&Netns::of_this_process().0, CloneFlags::CLONE_NEWNET).unwrap();
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            carry(&client, &server);
            carry(&server, &client);
        }
    });
}

fn carry(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

fn same(a: &Netns, b: &Netns) -> bool {
    let inode = |of: &Netns| nix::sys::stat::fstat(&of.0).unwrap().st_ino;
    inode(a) == inode(b)
}

/// `ip WORDS` in the namespace of this thread.
#[track_caller]
pub fn ip(words: &str) -> String {
    run("ip", words)
}

/// What a program prints in the namespace of this thread.
#[track_caller]
pub fn run(program: &str, words: &str) -> String {
    let done = Command::new(program).args(super::words(words)).output();
    let done = done.unwrap_or_else(|e| panic!("{program}: {e}: run sh tests/setup.sh --tests"));
    assert!(done.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The network interfaces of this thread's namespace.
pub fn interfaces() -> BTreeSet<OsString> {
    use std::os::unix::ffi::OsStrExt;
    // /sys/class/net shows those of the namespace that it was mounted in.
    let all = nix::net::if_::if_nameindex().unwrap();
    all.iter().map(|interface| std::ffi::OsStr::from_bytes(interface.name().to_bytes()).to_owned()).collect()
}
