//! Real registries: Debian's docker-registry on loopback, one plain, one with TLS (its own
//! certificate authority) and a password. Started once for a run of the tests, on free ports.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use base64::Engine;

use super::netns::forward_to_process;
use super::who::base;
use super::{Image, Netns, Sandbox, until};

/// Who may pull from the secure one.
pub const USER: &str = "ada";
pub const PASSWORD: &str = "lovelace 1843";

/// What a registry with TLS wants to see.
#[derive(Debug, Clone, Copy)]
enum Asks {
    Password,
    Certificate,
}

#[derive(Debug)]
pub struct Registry {
    /// `127.0.0.1:PORT`, or `localhost:PORT` where the certificate counts.
    pub host: String,
    /// The certificate that signs this registry's.
    pub authority: Option<PathBuf>,
    dir: PathBuf,
    pushed: Mutex<()>,
}

impl Registry {
    /// The one without TLS or password.
    pub fn plain() -> &'static Self {
        static PLAIN: OnceLock<Registry> = OnceLock::new();
        let start = || Self::start(&base().join("registry/plain"), Ipv4Addr::LOCALHOST, None);
        PLAIN.get_or_init(|| Netns::of_this_process().inside(start)).in_reach()
    }

    /// The one with both.
    pub fn secure() -> &'static Self {
        static SECURE: OnceLock<Registry> = OnceLock::new();
        let start = || {
            let registry = Self::start(&base().join("registry/secure"), Ipv4Addr::LOCALHOST, Some(Asks::Password));
            Self { host: registry.host.replace("127.0.0.1", "localhost"), ..registry }
        };
        SECURE.get_or_init(|| Netns::of_this_process().inside(start)).in_reach()
    }

    /// One that lets those in who show a certificate of its authority; no password.
    pub fn mutual() -> &'static Self {
        static MUTUAL: OnceLock<Registry> = OnceLock::new();
        let start = || {
            let registry = Self::start(&base().join("registry/mutual"), Ipv4Addr::LOCALHOST, Some(Asks::Certificate));
            Self { host: registry.host.replace("127.0.0.1", "localhost"), ..registry }
        };
        MUTUAL.get_or_init(|| Netns::of_this_process().inside(start)).in_reach()
    }

    /// Those that are shared are on the loopback that this process began with, tests on their own.
    fn in_reach(&self) -> &Self {
        let (_, port) = self.host.rsplit_once(':').unwrap();
        forward_to_process(port.parse().unwrap());
        self
    }

    /// One more with both, in `dir`, on an address of the network that this thread is in.
    pub fn elsewhere(dir: &Path, address: Ipv4Addr) -> Self {
        Self::start(dir, address, Some(Asks::Password))
    }

    fn start(dir: &Path, address: Ipv4Addr, secure: Option<Asks>) -> Self {
        let dir = dir.to_owned();
        fs::create_dir_all(dir.join("data")).unwrap();
        // The port is free when this lets go of it, and nobody else here asks for one by number.
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        // A network of its own has nobody who could come in by another address.
        let listens = if address.is_loopback() { address } else { Ipv4Addr::UNSPECIFIED };
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    \
             enabled: true\nhttp:\n  addr: {listens}:{port}\n",
            dir.join("data").display()
        );
        if let Some(asks) = secure {
            certificates(&dir, address);
            let words = ["-Bbn", USER, PASSWORD];
            let htpasswd = Command::new("htpasswd").args(words).output().expect("htpasswd (apache2-utils)").stdout;
            fs::write(dir.join("htpasswd"), htpasswd).unwrap();
            let at = dir.display();
            config += &format!("  tls:\n    certificate: {at}/server.pem\n    key: {at}/server.key\n");
            config += &match asks {
                Asks::Certificate => format!("    clientcas:\n      - {at}/authority.pem\n"),
                Asks::Password => format!("auth:\n  htpasswd:\n    realm: tests\n    path: {at}/htpasswd\n"),
            };
        }
        fs::write(dir.join("config.yml"), config).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let config = dir.join("config.yml");
        // The registry ends with the thread that started it, so that thread waits for it: for
        // ever, that is until this process ends.
        std::thread::spawn(move || {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(config);
            command.env_clear().env("PATH", "/usr/bin:/bin").env("OTEL_TRACES_EXPORTER", "none");
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            command.spawn().expect("docker-registry: run sh tests/setup.sh --tests").wait()
        });
        until("the registry listens", || TcpStream::connect((address, port)).is_ok());
        let authority = secure.map(|_| dir.join("authority.pem"));
        Self { host: format!("{address}:{port}"), authority, dir, pushed: Mutex::new(()) }
    }

    /// What it has complained about.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// Puts an image there, and returns its full reference: `HOST/NAME:TAG`.
    pub fn push(&self, image: &Image) -> String {
        let _one = self.pushed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reference = format!("{}/{}", self.host, image.name);
        let mut command = Command::new("skopeo");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", base()).env("TMPDIR", base());
        command.args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests"]);
        if self.authority.is_some() {
            command.arg("--dest-creds").arg(format!("{USER}:{PASSWORD}"));
        }
        command.arg(format!("oci-archive:{}", image.oci_archive().display())).arg(format!("docker://{reference}"));
        let done = command.output().expect("skopeo: run sh tests/setup.sh --tests");
        assert!(done.status.success(), "skopeo: {}", String::from_utf8_lossy(&done.stderr));
        reference
    }

    /// Lets a sandbox trust this registry's certificate, as containers-certs.d(5) has it; the folder
    /// that says so.
    pub fn trust(&self, sandbox: &Sandbox) -> PathBuf {
        let dir = make_dirs(sandbox, &format!("home/.config/containers/certs.d/{}", self.host));
        fs::copy(self.authority.as_ref().expect("a registry with TLS"), dir.join("ca.crt")).unwrap();
        dir
    }

    /// Gives a sandbox a certificate of this registry's authority, in the folder that [`Self::trust`] made.
    pub fn introduce(&self, folder: &Path) {
        fs::copy(self.dir.join("client.pem"), folder.join("client.cert")).unwrap();
        fs::write(folder.join("client.key"), fs::read(self.dir.join("client.key")).unwrap()).unwrap();
    }

    /// Gives a sandbox the password, as `docker login` stores it.
    pub fn log_in(&self, sandbox: &Sandbox) {
        log_in(sandbox, &self.host, USER, PASSWORD);
    }
}

/// A password for a host in `~/.docker/config.json`.
pub fn log_in(sandbox: &Sandbox, host: &str, user: &str, password: &str) {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    make_dirs(sandbox, "home/.docker");
    sandbox.make_file("home/.docker/config.json", format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#));
}

fn make_dirs(sandbox: &Sandbox, path: &str) -> PathBuf {
    let mut so_far = PathBuf::new();
    for part in Path::new(path) {
        so_far.push(part);
        sandbox.make_dir(so_far.to_str().unwrap());
    }
    sandbox.dir.join(path)
}

/// An authority, and a certificate of it for `localhost` and the address.
fn certificates(dir: &Path, address: Ipv4Addr) {
    let script = r#"
        openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=ctr tests" -keyout authority.key \
            -out authority.pem -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost,IP:%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' "$1" >ext
        openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 30 -extfile ext \
            -out server.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=ada -keyout client.key -out client.csr
        printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n' >client-ext
        openssl x509 -req -in client.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 30 \
            -extfile client-ext -out client.pem
    "#;
    let done =
        Command::new("sh").arg("-ec").arg(script).arg("sh").arg(address.to_string()).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "openssl: {}", String::from_utf8_lossy(&done.stderr));
}
