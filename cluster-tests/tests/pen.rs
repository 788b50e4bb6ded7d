//! Pen's front end from outside: what scripts, units and administrators of Pen rely on.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cygnet_lab::command::{self, Signal};
use cygnet_lab::enter;
use cygnet_lab::pen::{self, Installed, LIMIT, ask, fetch, page, said, serve_page};
use cygnet_lab::wait;

/// Where pen listens in these tests.
const PORT: u16 = 8080;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Servers `a` at port 101 and `b` at port 102, and the programs.
fn two_servers() -> Result<Installed> {
    pen::add_addresses()?;
    serve_page(101, "a")?;
    serve_page(102, "b")?;
    Installed::new("pen")
}

#[test]
fn pen_starts_in_the_background_serves_and_ends_cleanly_on_term() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let running = installed.start(&["8080", "127.0.0.1:101", "127.0.0.1:102"])?;
        // The first choice is server 1, and the client stays with it.
        ensure!(ask(PORT)? == "b" && ask(PORT)? == "b", "not the server that Pen chooses");
        ensure!(page(&fetch(local(PORT), Some(IpAddr::V4(pen::SECOND)))?)? == "a");
        ensure!(running.ctl("pid")? == format!("{}\n", running.pid));
        let pid_file = std::fs::read_to_string(installed.path("pid"))?;
        ensure!(pid_file == running.pid.to_string(), "{pid_file:?}: a newline?");
        running.signal(Signal::Term)?;
        running.wait_end()?;
        ensure!(!installed.folder().join("pid").exists(), "the pid file stayed");
        ensure!(installed.folder().join("ctl").exists(), "Pen leaves its socket's file behind");
        // It is no obstacle for the next one.
        installed.start(&["8080", "127.0.0.1:101"])?.ctl("mode")?;
        Ok(())
    })
}

#[test]
fn what_is_wrong_at_the_start_is_said_with_status_1() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let cases: [(&[&str], &str); 6] = [
            (&["-f", "-u", "no-such-user", "8080"], "Can't getpwnam(no-such-user)"),
            (&["-f", "-j", "/nonexistent", "8080"], "Can't chroot(/nonexistent)"),
            (&["-f", "-p", "/nonexistent/pid", "8080"], "Can't create pidfile /nonexistent/pid"),
            (&["-f", "-l", "/nonexistent/log", "8080"], "Can't open logfile /nonexistent/log"),
            (&["-f", "192.0.2.1:8080"], "can't bind local address"),
            (&["-f", "-E", "/nonexistent", "8080"], "Unable to create default context"),
        ];
        for (words, expected) in cases {
            let output = installed.pen(words).output()?;
            ensure!(output.status.code() == Some(1), "{words:?}: {}: {}", output.status, said(&output));
            ensure!(said(&output).contains(expected), "{words:?}: {}", said(&output));
        }
        let output = installed.pen(&[]).output()?;
        ensure!(
            output.status.success() && said(&output).to_lowercase().contains("usage"),
            "{}",
            said(&output)
        );
        Ok(())
    })
}

#[test]
fn a_hang_up_reads_the_file_again_and_opens_the_log_anew() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let (file, log, moved) = (installed.path("cfg"), installed.path("log"), installed.path("log.1"));
        std::fs::write(&file, "server 0 address 127.0.0.1 port 101\n")?;
        let running = installed.start(&["-F", &file, "-l", &log, "8080"])?;
        ensure!(ask(PORT)? == "a");
        std::fs::rename(&log, &moved)?;
        std::fs::write(&file, "server 0 address 127.0.0.1 port 102\nnonsense\n")?;
        running.signal(Signal::Hangup)?;
        wait::until(LIMIT, "the other server", || Ok((ask(PORT)? == "b").then_some(())))?;
        running.signal(Signal::Term)?;
        running.wait_end()?;
        for (file, what) in [(&moved, "before"), (&log, "after")] {
            let text = std::fs::read_to_string(file).with_context(|| format!("the log of {what}"))?;
            let words: Vec<&str> = text.lines().next().unwrap_or_default().split(' ').collect();
            let good = words.len() == 6
                && words[0] == "127.0.0.1"
                && words[1].parse::<u64>().is_ok()
                && words[2..] == ["127.0.0.1", "GET", "/", "HTTP/1.0"];
            ensure!(good, "{what}: {text:?}");
        }
        Ok(())
    })
}

#[test]
fn a_refused_command_ends_penctl_with_1_and_changes_nothing() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let running = installed.start(&["8080", "127.0.0.1:101"])?;
        for words in ["nonsense", "blacklist soon", "connection 100000", "acl 0 permit moon"] {
            let output = running.ctl_output(words)?;
            ensure!(output.status.code() == Some(1), "{words}: {}: {}", output.status, said(&output));
            ensure!(!output.stdout.is_empty(), "{words}: no word of why");
        }
        let busy = running.ctl_output("listen 192.0.2.1:9090")?;
        ensure!(busy.status.code() == Some(1), "{}", said(&busy));
        ensure!(ask(PORT)? == "a", "the old listener is gone");
        running.ctl("listen 127.0.0.1:9090")?;
        wait::until(
            LIMIT,
            "the new listener",
            || Ok((ask(9090).ok().as_deref() == Some("a")).then_some(())),
        )?;
        running.ctl("exit")?;
        running.wait_end()
    })
}

#[test]
fn a_silent_control_client_holds_up_neither_traffic_nor_other_commands() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let running = installed.start(&["8080", "127.0.0.1:101"])?;
        let silent: Vec<UnixStream> =
            (0..100).map(|_| UnixStream::connect(installed.path("ctl"))).collect::<Result<_, _>>()?;
        ensure!(ask(PORT)? == "a");
        ensure!(running.ctl("timeout")? == "3\n");
        drop(silent);
        Ok(())
    })
}

#[test]
fn in_the_jail_as_another_user_nothing_of_root_is_left() -> Result<()> {
    enter::lab(|| {
        ensure!(enter::is_root(), "only root can");
        let installed = two_servers()?;
        let jail = installed.path("jail");
        std::fs::create_dir_all(&jail)?;
        command::run("chown", &["nobody", &jail])?;
        let words =
            ["-C", "./ctl", "-u", "nobody", "-j", &jail, "-p", "/pid", "-l", "/log", "80", "127.0.0.1:101"];
        let output = installed.pen(&words).output()?;
        ensure!(output.status.success(), "{}", said(&output));
        let pid: u32 = wait::until(LIMIT, "the pid file", || {
            Ok(std::fs::read_to_string(format!("{jail}/pid")).ok().and_then(|text| text.parse().ok()))
        })?;
        ensure!(ask(80)? == "a");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let nobody = command::run("id", &["-u", "nobody"])?;
        let nobody = nobody.trim();
        ensure!(field("Uid:") == [nobody; 4].join(" ") && field("Groups:").is_empty(), "{status}");
        ensure!(std::fs::read_link(format!("/proc/{pid}/root"))? == std::path::Path::new(&jail));
        command::signal(Signal::Term, &[pid])?;
        wait::until(LIMIT, "its end", || {
            Ok(command::stat_field(pid, 0).is_none_or(|s| s == "Z").then_some(()))
        })?;
        ensure!(std::fs::read_to_string(format!("{jail}/log"))?.contains("GET / HTTP/1.0"));
        Ok(())
    })
}

#[test]
fn a_network_log_gets_a_datagram_for_each_request() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let receiver = UdpSocket::bind("127.0.0.1:9999")?;
        receiver.set_read_timeout(Some(LIMIT))?;
        let running = installed.start(&["-l", "127.0.0.1:9999", "8080", "127.0.0.1:101"])?;
        ask(PORT)?;
        let mut buffer = [0; 2048];
        let length = receiver.recv(&mut buffer)?;
        ensure!(&buffer[..length] == b"+ 127.0.0.1 127.0.0.1 GET / HTTP/1.0\n", "{:?}", &buffer[..length]);
        running.ctl("no log").map(drop)
    })
}

#[test]
fn statistics_count_clients_and_bytes_and_are_written_on_user1() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let page = installed.path("page.html");
        let running = installed.start(&["-w", &page, "8080", "127.0.0.1:101"])?;
        let answer = fetch(local(PORT), None)?;
        fetch(local(PORT), None)?;
        let expected = format!("127.0.0.1 connects 2 sx {} rx {}\n", 2 * answer.len(), 2 * 29);
        wait::until(LIMIT, &expected, || Ok((running.ctl("recent")? == expected).then_some(())))?;
        running.signal(Signal::User1)?;
        wait::until(LIMIT, "the page", || {
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            Ok((text.contains("Pen status page") && text.contains("127.0.0.1")).then_some(()))
        })
    })
}

#[test]
fn a_connection_is_shown_found_by_its_socket_and_closed() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let running = installed.start(&["8080", "127.0.0.1:101"])?;
        let mut client = TcpStream::connect(local(PORT))?;
        client.set_read_timeout(Some(LIMIT))?;
        let text = wait::until(LIMIT, "the connection", || {
            let text = running.ctl("connection 0")?;
            Ok(text.contains("state = 2").then_some(text))
        })?;
        let fd =
            text.split("downfd = ").nth(1).and_then(|rest| rest.split(',').next()).context("a socket")?;
        ensure!(running.ctl(&format!("socket {fd}"))? == format!("Socket {fd} belongs to connection 0\n"));
        ensure!(running.ctl("close 0")? == "Forcibly closing connection 0\n");
        // The end, or a reset.
        ensure!(client.read(&mut [0; 1]).unwrap_or(0) == 0);
        wait::until(LIMIT, "its end", || Ok(running.ctl("connection 0")?.contains("state = 0").then_some(())))
    })
}

#[test]
fn a_dead_server_is_blacklisted_and_the_emergency_server_serves_when_all_are() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        serve_page(103, "emergency")?;
        // Nobody listens at port 99.
        let words = ["-r", "-e", "127.0.0.1:103", "8080", "127.0.0.1:101", "127.0.0.1:99"];
        let running = installed.start(&words)?;
        for _ in 0..4 {
            ensure!(ask(PORT)? == "a", "no failover");
        }
        running.ctl("server 0 blacklist 30")?;
        ensure!(ask(PORT)? == "emergency");
        running.ctl("server 0 blacklist 0")?;
        ensure!(ask(PORT)? == "a");
        drop(running);
        let running = installed.start(&["-s", "8080", "127.0.0.1:101", "127.0.0.1:99"])?;
        ensure!(ask(PORT).is_err(), "a stubborn pen has gone on to the next server");
        drop(running);
        Ok(())
    })
}

#[test]
fn weight_hash_and_prio_choose_as_pen_does() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let running = installed.start(&["-W", "-r", "8080", "127.0.0.1:101:0:0:0", "127.0.0.1:102:0:0:5"])?;
        ensure!(ask(PORT)? == "b" && ask(PORT)? == "b", "weight 0 is none");
        drop(running);
        // 127.0.0.1 as it lies in memory is 0x0100007f, an odd number.
        let running = installed.start(&["-h", "8080", "127.0.0.1:101", "127.0.0.1:102"])?;
        ensure!(ask(PORT)? == "b");
        running.ctl("no hash")?;
        running.ctl("prio")?;
        running.ctl("server 0 prio 1")?;
        running.ctl("server 1 prio 2")?;
        ensure!(page(&fetch(local(PORT), Some(IpAddr::V4(pen::SECOND)))?)? == "a");
        Ok(())
    })
}

#[test]
fn clients_that_the_list_denies_get_the_abuse_server() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        let running = installed.start(&["-B", "127.0.0.1:102", "8080", "127.0.0.1:101"])?;
        running.ctl("acl 1 permit 127.0.0.1")?;
        running.ctl("client_acl 1")?;
        ensure!(ask(PORT)? == "a");
        ensure!(page(&fetch(local(PORT), Some(IpAddr::V4(pen::SECOND)))?)? == "b");
        running.ctl("client_acl 0")?;
        ensure!(page(&fetch(local(PORT), Some(IpAddr::V4(pen::SECOND)))?)? == "a");
        Ok(())
    })
}

#[test]
fn datagrams_go_to_the_servers_in_turn() -> Result<()> {
    enter::lab(|| {
        let installed = two_servers()?;
        for port in [53, 54] {
            pen::serve_names(local(port))?;
        }
        let _running = installed.start(&["-U", "-r", "8080", "127.0.0.1:53", "127.0.0.1:54"])?;
        let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";
        for _ in 0..4 {
            let client = UdpSocket::bind("127.0.0.1:0")?;
            client.set_read_timeout(Some(LIMIT))?;
            client.send_to(question, local(PORT))?;
            let mut buffer = [0; 512];
            let (length, from) = client.recv_from(&mut buffer)?;
            ensure!(from == local(PORT) && buffer[..length].ends_with(&[1; 4]), "{from}");
        }
        Ok(())
    })
}

/// The recipe for a good mark, as it is published: paths, options and file.
#[test]
fn the_recipe_for_tls_works_as_it_stands() -> Result<()> {
    enter::lab(|| {
        ensure!(enter::is_root(), "port 443 and another user");
        let installed = two_servers()?;
        recipe_places()?;
        let words = "-u pen -C /var/run/pen/https.ctl -F /etc/pen/https.cfg -p /var/run/pen/https.pid \
                     -K /etc/pen/your.domain.key -E /etc/pen/your.domain.crt -G /etc/pen/intermediate.crt -S 2 443";
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = installed.pen(&words).stdout(Stdio::piped()).output()?;
        ensure!(output.status.success(), "{}", said(&output));
        let pid: u32 = wait::until(LIMIT, "the pid file", || {
            Ok(std::fs::read_to_string("/var/run/pen/https.pid").ok().and_then(|text| text.parse().ok()))
        })?;
        let client = |extra: &[&str]| {
            let args = [
                &[
                    "s_client",
                    "-connect",
                    "127.0.0.1:443",
                    "-servername",
                    "your.domain",
                    "-CAfile",
                    "/etc/pen/root.crt",
                    "-verify_return_error",
                ],
                extra,
            ]
            .concat();
            command::run_with_input("openssl", &args, "Q\n")
        };
        for (version, works) in [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false), ("-tls1", false)] {
            // Old versions need the client's consent as well.
            let found = client(&[version, "-cipher", "DEFAULT@SECLEVEL=0"]).is_ok();
            ensure!(found == works, "{version}: {found}");
        }
        let chain = client(&["-showcerts"])?;
        ensure!(chain.matches("BEGIN CERTIFICATE").count() >= 2, "the intermediate certificate is missing");
        let args = [
            "-s",
            "--noproxy",
            "*",
            "--cacert",
            "/etc/pen/root.crt",
            "--resolve",
            "your.domain:443:127.0.0.1",
            "https://your.domain/",
        ];
        ensure!(command::run("curl", &args)?.trim() == "a");
        let mut control = UnixStream::connect("/var/run/pen/https.ctl")?;
        control.set_read_timeout(Some(Duration::from_secs(20)))?;
        control.write_all(b"pid\n")?;
        let mut answer = String::new();
        control.read_to_string(&mut answer)?;
        ensure!(answer == format!("{pid}\n"));
        command::signal(Signal::Term, &[pid])
    })
}

/// `/etc/pen`, `/var/run/pen` and the user `pen`, for this lab alone.
fn recipe_places() -> Result<()> {
    // /run is the lab's own already, and /var/run leads there.
    std::fs::create_dir_all("/run/pen")?;
    let etc = "/run/lab/etc";
    std::fs::create_dir_all(format!("{etc}/work"))?;
    std::fs::create_dir_all(format!("{etc}/upper"))?;
    let options = format!("lowerdir=/etc,upperdir={etc}/upper,workdir={etc}/work");
    command::run("mount", &["-t", "overlay", "overlay", "-o", &options, "/etc"])?;
    std::fs::create_dir_all("/etc/pen")?;
    for (file, line) in
        [("/etc/passwd", "pen:x:64999:64999::/nonexistent:/bin/false\n"), ("/etc/group", "pen:x:64999:\n")]
    {
        let text = std::fs::read_to_string(file)?;
        std::fs::write(file, text + line)?;
    }
    command::run("chown", &["64999:64999", "/run/pen"])?;
    let script = "cd /etc/pen
        openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=root -keyout root.key -out root.crt
        openssl req -newkey rsa:2048 -nodes -subj /CN=intermediate -keyout i.key -out i.csr
        printf 'basicConstraints=critical,CA:TRUE\\n' > i.ext
        openssl x509 -req -in i.csr -CA root.crt -CAkey root.key -CAcreateserial -days 9 -extfile i.ext -out intermediate.crt
        openssl req -newkey rsa:2048 -nodes -subj /CN=your.domain -keyout your.domain.key -out d.csr
        printf 'subjectAltName=DNS:your.domain\\n' > d.ext
        openssl x509 -req -in d.csr -CA intermediate.crt -CAkey i.key -CAcreateserial -days 9 -extfile d.ext -out your.domain.crt
        chmod 600 your.domain.key";
    command::run("sh", &["-e", "-c", script])?;
    let ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
                   ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
    let text = format!(
        "server 0 address 127.0.0.1 port 101\nserver 1 address 127.0.0.1 port 101\nssl_option no_sslv2\n\
         ssl_option no_sslv3\nssl_option no_tlsv1\nssl_option no_tlsv1.1\nssl_option cipher_server_preference\n\
         ssl_ciphers {ciphers}\n"
    );
    std::fs::write("/etc/pen/https.cfg", text)?;
    Ok(())
}
