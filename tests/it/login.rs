//! `ctr login` and `ctr logout`: what is kept, where, and what of it pulls and pushes use.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Entry, Image, Registry, Reply, Sandbox, Server, Terminal, both, registry};

fn config(cx: &Sandbox) -> Value {
    serde_json::from_slice(&std::fs::read(cx.home().join(".docker/config.json")).unwrap()).unwrap()
}

const PASSWORD: &str = registry::PASSWORD;

both!(a_password_is_checked_and_kept, |cx| {
    let registry = Registry::secure();
    registry.trust(cx);
    let host = &registry.host;
    let reference = registry.push(&Image::small("private/login:v1", [Entry::file("secret", 0o644, "s\n")]));
    let path = cx.home().join(".docker/config.json");
    let login = format!("login -u ada --password-stdin {host}");

    cx.ctr_reads(&login, "wrong\n").is(
        1,
        "",
        &format!(
            "ctr: login attempt to https://{host}/v2/ failed with status: 401 Unauthorized\n\
             hint: check the user name and the password\n"
        ),
    );
    assert!(!path.exists());
    cx.ctr_reads(&login, format!("{PASSWORD}\n")).is(
        0,
        "Login Succeeded\n",
        &format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n\n",
            path.display()
        ),
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
    // Once more, with what is kept.
    cx.ctr(&format!("login https://{host}/v2/")).is(
        0,
        "Authenticating with existing credentials... [Username: ada]\nLogin Succeeded\n",
        "Info: To login with a different account, run 'ctr logout' followed by 'ctr login'\n",
    );
    // Docker's own client reads it, and what it keeps is left alone.
    let mut whole = config(cx);
    whole["HttpHeaders"] = serde_json::json!({"X-Meta": "1"});
    std::fs::write(&path, whole.to_string()).unwrap();
    cx.ctr(&format!("logout {host}")).prints(&format!("Removing login credentials for {host}\n"));
    assert_eq!(config(cx), serde_json::json!({"auths": {}, "HttpHeaders": {"X-Meta": "1"}}));
    cx.ctr(&format!("logout {host}")).prints(&format!("Removing login credentials for {host}\n"));
    cx.ctr("logout").prints("Removing login credentials for https://index.docker.io/v1/\n");
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "denied");
});

both!(wrong_uses_are_refused_as_docker_does, |cx| {
    cx.ctr("login -u a -p b --password-stdin r.io")
        .refuses(1, "conflicting options: cannot specify both --password and --password-stdin");
    cx.ctr("login --password-stdin r.io").refuses(1, "the --password-stdin option requires --username to be set");
    cx.ctr("login r.io").refuses(1, "Cannot perform an interactive login from a non TTY device");
    cx.ctr_reads("login -u a --password-stdin r.io", "\n").refuses(1, "password is empty");
    cx.ctr("login -u a -p b 127.0.0.1:1").is(
        1,
        "",
        "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n\
         ctr: registry \"127.0.0.1:1\" cannot be reached: [..]\n",
    );
});

both!(typed_at_a_terminal, |cx| {
    let registry = Registry::secure();
    registry.trust(cx);
    let terminal = Terminal::open(cx);
    let before = terminal.settings();
    terminal.line(&format!("clear; $ctr login {}; echo code=$?", registry.host));
    terminal.ends_with("Username:");
    terminal.line("ada");
    terminal.ends_with("Password:");
    terminal.line(PASSWORD);
    terminal.shows("Login Succeeded");
    terminal.shows("code=0");
    assert!(!terminal.screen().contains(PASSWORD), "{}", terminal.screen());
    assert_eq!(terminal.settings(), before);
    terminal.line(&format!("clear; $ctr login -u eve {}; echo code=$?", registry.host));
    terminal.ends_with("Password:");
    terminal.keys(&["C-c"]);
    terminal.ends_with("$");
    assert_eq!(terminal.settings(), before);
});

both!(another_file, |cx| {
    let registry = Registry::secure();
    registry.trust(cx);
    let host = &registry.host;
    let reference = registry.push(&Image::small("private/authfile:v1", [Entry::file("a", 0o644, "s\n")]));
    let file = cx.dir.join("auth.json");
    cx.ctr_reads(&format!("login -u ada --password-stdin --authfile {} {host}", file.display()), PASSWORD)
        .succeeds_talking();
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "denied");
    cx.set("REGISTRY_AUTH_FILE", &file);
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
    cx.ctr(&format!("logout {host}")).succeeds();
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "denied");
    // Skopeo's is read as well.
    cx.host(&format!(
        "echo '{PASSWORD}' | skopeo login --tls-verify=false -u ada --password-stdin --authfile {} {host}",
        file.display()
    ))
    .succeeds_talking();
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
});

/// A credential helper that keeps what it gets in a file of its own.
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$1" >> calls
case $1 in
store) cat > secret ;;
get) read -r server
    [ -f secret ] || { echo "credentials not found in native keychain"; exit 1; }
    cat secret ;;
erase) [ -f secret ] || { echo "credentials not found in native keychain"; exit 1; }
    rm secret ;;
esac
"#;

both!(programs_that_keep_secrets, |cx| {
    let registry = Registry::secure();
    registry.trust(cx);
    let host = &registry.host;
    let reference = registry.push(&Image::small("private/helper:v1", [Entry::file("a", 0o644, "s\n")]));
    cx.make_dir("bin");
    let helper = cx.make_file("bin/docker-credential-mine", HELPER);
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    cx.set("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", cx.dir.join("bin").display()));
    cx.make_dir("home/.docker");
    cx.make_file("home/.docker/config.json", r#"{"credsStore": "mine"}"#);
    cx.ctr_reads(&format!("login -u ada --password-stdin {host}"), PASSWORD).is(0, "Login Succeeded\n", "");
    assert_eq!(config(cx), serde_json::json!({"credsStore": "mine", "auths": {host.as_str(): {}}}));
    let kept: Value = serde_json::from_slice(&std::fs::read(cx.dir.join("bin/secret")).unwrap()).unwrap();
    assert_eq!(kept, serde_json::json!({"ServerURL": host, "Username": "ada", "Secret": PASSWORD}));
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
    cx.ctr(&format!("logout {host}")).succeeds();
    assert!(!cx.dir.join("bin/secret").exists());
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "denied");
    // For one registry alone; and one that is not there.
    cx.make_file("home/.docker/config.json", format!(r#"{{"credHelpers": {{"{host}": "mine", "b.io": "none"}}}}"#));
    cx.ctr_reads(&format!("login -u ada --password-stdin {host}"), PASSWORD).is(0, "Login Succeeded\n", "");
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
    // One that fails says why.
    cx.make_file("bin/docker-credential-mine", "#!/bin/sh\necho 'the keychain is locked' >&2; exit 1\n");
    let said = "\"docker-credential-mine\" fails to [..]: the keychain is locked";
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, &said.replace("[..]", "get"));
    cx.ctr_reads(&format!("login -u ada --password-stdin {host}"), PASSWORD)
        .fails_saying(1, &said.replace("[..]", "store"));
    cx.ctr("logout b.io").is(
        1,
        "Removing login credentials for b.io\n",
        "ctr: run \"docker-credential-none\": no such file or directory\nhint: install docker-credential-none\n",
    );
});

both!(a_token_in_place_of_the_password, |cx| {
    let server = Server::start();
    let image = Image::small("identity/app:1", [Entry::file("a", 0o644, "1\n")]);
    let reference = server.serve_image(&image);
    server.put("/token", Reply::ok("application/json", r#"{"token":"t0k3n","refresh_token":"1dent1ty"}"#));
    server.demand("Bearer t0k3n", &format!(r#"Bearer realm="http://{}/token",service="tests""#, server.host));
    cx.ctr_reads(&format!("login -u ada --password-stdin {}", server.host), "p").succeeds_talking();
    let kept = &config(cx)["auths"][&server.host];
    assert_eq!(kept["identitytoken"], "1dent1ty");
    assert!(!kept.to_string().contains("YWRhOnA"), "the password is kept: {kept}");
    // It is exchanged for a token with a form.
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
    assert!(server.asked().iter().any(|line| line == "POST /token"), "{:#?}", server.asked());
});
